"""Ray Serve: a deployment class that is called with the request."""

import os

import ray
from ray import serve
from ray.serve.schema import LoggingConfig
from starlette.requests import Request

from benchmarks.peers import shipped


@serve.deployment(max_ongoing_requests=100)
class Classifier:
    def __init__(self):
        self.model = shipped.Model()

    async def __call__(self, request: Request) -> dict:
        if request.url.path == "/image":
            return shipped.answer(self.model(self.model.picture(await request.body())))
        inputs = (await request.json())["inputs"]
        return shipped.answer(self.model(self.model.numbers(inputs)))


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])},
        logging_config=LoggingConfig(enable_access_log=False),
    )
    serve.run(Classifier.bind(), blocking=True)
