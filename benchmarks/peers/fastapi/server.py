"""A FastAPI server as tutorials write it: a module of torch, eager, in the route."""

import os
from pathlib import Path

import torch
import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel
from safetensors.torch import load_file

from benchmarks.peers import shipped
from perceptd.models import registry
from perceptd.models.networks.layers import Probabilities

folder = Path(os.environ["CHECKPOINT"])
torch.set_num_threads(1)
architecture = registry.load(folder.name)
module = architecture.module(architecture.config())
module.load_state_dict(load_file(folder / "model.safetensors"))
model = Probabilities(module, architecture.spec.head).eval()
app = FastAPI()


class Body(BaseModel):
    model: str
    inputs: list[list[float]]


@app.post("/predict")
async def predict(body: Body):
    return answer(torch.tensor(body.inputs))


@app.post("/image")
async def image(request: Request):
    return answer(torch.frombuffer(bytearray(await request.body()), dtype=torch.uint8)[None] / 255)


def answer(rows):
    with torch.inference_mode():
        return shipped.answer(model(rows.view(-1, *architecture.spec.input.shape)))


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]), access_log=False)
