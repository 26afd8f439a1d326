"""A FastAPI server as tutorials write it: torch, eager, in the route."""

import os

import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel

from benchmarks.peers import shipped

app = FastAPI()
model = shipped.load()


class Body(BaseModel):
    model: str
    inputs: list[list[float]]


@app.post("/predict")
async def predict(body: Body):
    return shipped.answer(model(model.numbers(body.inputs)))


@app.post("/image")
async def image(request: Request):
    return shipped.answer(model(model.picture(await request.body())))


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]), access_log=False)
