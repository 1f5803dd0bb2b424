"""Labels of metrics: clients cannot make new ones."""

from __future__ import annotations

from router.telemetry.labels import OTHER, Labels


class Models:
    def __init__(self, *names: str) -> None:
        self.names = names
        self.now_s = 0.0
        self.asked = 0

    def __call__(self) -> tuple[str, ...]:
        self.asked += 1
        return self.names


def labels_of(models: Models) -> Labels:
    return Labels(models, lambda: models.now_s)


def test_known_models_are_their_own_labels() -> None:
    labels = labels_of(Models("a", "b"))
    assert [labels.model(name) for name in ("a", "b", "c", "", None)] == ["a", "b", OTHER, OTHER, ""]


def test_a_new_model_is_known_within_a_second_and_unknown_ones_ask_once_in_it() -> None:
    models = Models("a")
    labels = labels_of(models)
    assert labels.model("new") == OTHER
    models.names = ("a", "new")
    models.now_s = 0.9
    assert [labels.model(f"x{i}") for i in range(1000)] == [OTHER] * 1000
    assert models.asked == 1
    models.now_s = 1.0
    assert labels.model("new") == "new"


def test_the_number_of_labels_is_bounded() -> None:
    names = [f"m{i:05}" for i in range(2000)]
    labels = labels_of(Models(*names))
    assert len({labels.model(name) for name in names}) == 501
