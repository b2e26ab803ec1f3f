"""Visual Set-Sum (MoXI, Fig. 2): train the classifier, explain composites, plot the accuracies."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline import config, workers
from pipeline.data.datasets import pack, setsum
from pipeline.results import Run
from pipeline.setsum import figure
from pipeline.setsum.train import Training, accuracy, checkpoint


@config.entry_point("setsum")
def main(settings: dict[str, Any]) -> None:
    """Make what is missing, print the table and draw the figure."""
    run, seed, composites = Run(settings["out"]), settings["seed"], settings["composites"]
    share, model = composites["test_share"], settings["model"]
    train, test = setsum.split(test_share=share, seed=seed)
    images_nHW, digits_n4 = test.composites(composites["test"], np.random.default_rng([seed, 2]))
    vit = checkpoint(
        Path(model["weights"]),
        Training(seed=seed, **settings["training"]),
        train,
        width=model["width"],
        depth=model["depth"],
        test_share=share,
    )
    labels_n = setsum.set_sum(digits_n4)
    correct = accuracy(vit, images_nHW, labels_n)
    print(f"test accuracy {correct:.1%} on {len(labels_n)} composites of {len(test)} unseen digits")
    samples = setsum.samples(images_nHW, digits_n4)
    pack(samples, Path(run.path("composites")), name="setsum", samples_per_shard=len(labels_n))
    report = workers.run(settings)
    if report.computed:
        rate = report.counters.forwards / report.seconds
        print(f"{report.computed} composites in {report.seconds:.0f} s, {rate:.0f} forwards/s")
    keys, curves = figure.curves(run.read(), config.build(settings).fingerprints)
    found = figure.result(
        curves,
        digits_n4[[int(key) for key in keys]],
        resamples=settings["resamples"],
        confidence=settings["confidence"],
    )
    print(f"insertion over the {len(keys)} composites classified correctly")
    print(figure.table(found))
    print(f"figure: {figure.draw(run, found)}")


if __name__ == "__main__":
    main()
