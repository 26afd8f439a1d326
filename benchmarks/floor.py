"""The floor: a FastAPI application without a model, which shows what FastAPI itself costs.

    python -m benchmarks.floor --port 8000

It reads perceptd's request bodies into a pydantic model, checks nothing else, and returns a
constant in the shape of perceptd's answers, through a pydantic model. A server that does more per
request cannot be faster on the same framework.
"""

import argparse

import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel


class PredictRequest(BaseModel):
    model: str
    inputs: list[list[float]]


class Prediction(BaseModel):
    label: str
    index: int
    probabilities: dict[str, float]


class PredictResponse(BaseModel):
    model: str
    version: int
    predictions: list[Prediction]


ANSWERS = {
    "perceptron": Prediction(
        label="1", index=1, probabilities={"0": 0.011632800102233887, "1": 0.9883671998977661}
    ),
    "mnist-cnn": Prediction(
        label="7",
        index=7,
        probabilities={str(digit): (1.0 + digit) / 54.999 for digit in range(10)},
    ),
}

app = FastAPI()


@app.post("/predict_proba")
async def predict_proba(body: PredictRequest) -> PredictResponse:
    rows = [ANSWERS[body.model]] * len(body.inputs)
    return PredictResponse(model=body.model, version=1, predictions=rows)


@app.post("/predict/image")
async def predict_image(request: Request, model: str = "mnist-cnn") -> PredictResponse:
    await request.body()
    return PredictResponse(model=model, version=1, predictions=[ANSWERS[model]])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    port: int = parser.parse_args().port
    uvicorn.run(
        app, port=port, loop="uvloop", http="httptools", log_level="error", access_log=False
    )
