"""mosec: a worker that is given a batch. INPUT says whether its route takes JSON or bytes."""

import os

import msgspec
import numpy as np
from mosec import Server, Worker

from benchmarks.peers import shipped

MAX_BATCH_SIZE = 64


class Body(msgspec.Struct):
    model: str
    inputs: list[list[float]]


class Classifier(Worker):
    def __init__(self):
        self.model = shipped.Model()

    def deserialize(self, data):
        return self.model.numbers(msgspec.json.decode(data, type=Body).inputs)

    def forward(self, data):
        """Probabilities of a batch: each request's rows are (N, features)."""
        found = self.model(np.concatenate(data))
        ends = np.cumsum([len(rows) for rows in data])[:-1]
        return np.split(found, ends)

    def serialize(self, data):
        return msgspec.json.encode(shipped.answer(data))


class PictureClassifier(Classifier):
    def deserialize(self, data):
        return self.model.picture(data)


if __name__ == "__main__":
    worker = PictureClassifier if os.environ["INPUT"] == "raw" else Classifier
    server = Server()
    server.append_worker(worker, max_batch_size=MAX_BATCH_SIZE)
    server.run()
