"""Teach a classifier, ask it, measure it, and put it on a phone."""

from pathlib import Path

import handful


def main() -> None:
    taught = handful.teach("photos", "model", vigilance=2.5, overwrite=True)
    print(taught.kind, taught.classes)
    model = handful.load("model", "classifier")
    for result in model.predict(Path("new")):
        print(result.label or "none of these", result.probability, result.top(3))
        print(result.plot().shape, result.to_json()["probabilities"])
    measured = model.evaluate("test-photos", report="report.html")
    print(measured.metrics["accuracy"], measured.plot().shape)
    bundle = model.compile("onnxruntime", "fp16")
    print(bundle.runtime, bundle.bytes)
    detector = handful.load("detector", "detector")
    found = detector.predict("shelf.jpg")[0]
    for thing in found:
        print(thing.name, thing.score, thing.box_px)
    segmenter = handful.train("segment", "scenes", "segmenter", epochs=3, seed=1)
    for one in handful.predict(segmenter, handful.Image.open("street.jpg")):
        print(one.to_json())
    dreamed = handful.dream("masks", "dreams", frames=5)
    try:
        handful.load("nowhere")
    except handful.DataError as error:
        print(error, dreamed.images, handful.evaluate("model", "photos").images)


main()
