"""TorchServe: a handler that preprocesses, infers and postprocesses what a worker is given."""

from ts.torch_handler.base_handler import BaseHandler

from benchmarks.peers import shipped


class Classifier(BaseHandler):
    def initialize(self, context):
        self.model = shipped.load()
        self.initialized = True

    def preprocess(self, data):
        body = data[0]["body"]  # one request: no batching
        if isinstance(body, dict):
            return self.model.numbers(body["inputs"])
        return self.model.picture(body)

    def inference(self, data):
        return self.model(data)

    def postprocess(self, data):
        return [shipped.answer(data)]
