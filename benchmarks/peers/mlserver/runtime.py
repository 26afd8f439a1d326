"""MLServer: a custom runtime for the Open Inference Protocol, and a route of its own for bytes."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.handlers import custom_handler
from mlserver.types import InferenceRequest, InferenceResponse
from starlette.requests import Request
from starlette.responses import JSONResponse

from benchmarks.peers import shipped


class Classifier(MLModel):
    async def load(self) -> bool:
        self.model = shipped.Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = self.model.numbers(NumpyCodec.decode_input(payload.inputs[0]))
        probabilities = np.asarray(self.model(rows))
        labels = [str(index) for index in probabilities.argmax(1).tolist()]
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                StringCodec.encode_output("label", labels),
                NumpyCodec.encode_output("probabilities", probabilities),
            ],
        )

    @custom_handler(rest_path="/image")
    async def image(self, request: Request) -> JSONResponse:
        rows = self.model.picture(await request.body())
        return JSONResponse(shipped.answer(self.model(rows)))
