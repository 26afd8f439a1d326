"""LitServe: an API class with its four steps. INPUT says whether its route takes JSON or bytes."""

import os
from typing import Annotated

import litserve as ls
from fastapi import Body

from benchmarks.peers import shipped


class Classifier(ls.LitAPI):
    def setup(self, device):
        self.model = shipped.Model()

    def decode_request(self, request):
        return self.model.numbers(request["inputs"])

    def predict(self, rows):
        return self.model(rows)

    def encode_response(self, probabilities):
        return shipped.answer(probabilities)


class PictureClassifier(Classifier):
    def decode_request(self, request: Annotated[bytes, Body()]):
        return self.model.picture(request)


if __name__ == "__main__":
    api = PictureClassifier if os.environ["INPUT"] == "raw" else Classifier
    batching = {"max_batch_size": 16, "batch_timeout": 0.01} if "BATCHING" in os.environ else {}
    server = ls.LitServer(api(**batching), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        log_level="error",
        generate_client_file=False,
    )
