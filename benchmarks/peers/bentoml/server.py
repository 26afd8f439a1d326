"""BentoML: a service class whose methods are its routes.

They are coroutines: on one core, threads would cost more than they gain.
"""

import bentoml

from benchmarks.peers import shipped


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": False})
class Classifier:
    def __init__(self):
        self.model = shipped.Model()

    @bentoml.api(route="/predict")
    async def predict(self, model: str, inputs: list[list[float]]) -> dict:
        return shipped.answer(self.model(self.model.numbers(inputs)))

    @bentoml.api(route="/image")
    async def image(self, picture: bytes, /) -> dict:
        return shipped.answer(self.model(self.model.picture(picture)))
