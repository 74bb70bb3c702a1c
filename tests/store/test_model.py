"""The labeling store against a model of it in a few lines: whatever is done in whatever order, both say the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handful.errors import DataError
from handful.store.store import Annotation, Label, Store
from handful.types import Object

pytest_plugins = ["tests.store.fixture"]
WHO = ("ann", "bob")
OPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["add", "tag", "change", "remove"]), st.integers(0, 5), st.integers(0, 2)),
        st.tuples(st.sampled_from(["empty", "unmark", "clear"]), st.integers(0, 1), st.just(0)),
    ),
    min_size=1,
    max_size=3,
)
ACTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(WHO), OPS),
        st.tuples(st.sampled_from(["undo", "redo"]), st.sampled_from([None, None, *WHO])),
    ),
    max_size=25,
)


class Said(NamedTuple):
    image: int
    kind: str
    size: int | None
    author: str
    step: int  # in which it was said; stays when it is undone and done again


State = dict[int, Said]
Delta = list[tuple[int, Said | None, Said | None]]


class Model:
    """All states there ever were, and what each step did."""

    def __init__(self) -> None:
        self.states: list[State] = [{}]
        self.versions: dict[int, int] = {}
        self.made = 0
        self.steps: list[tuple[str, int | None, Delta]] = [("", None, [])]  # author, target, delta
        self.done: list[int] = []
        self.undone: list[int] = []
        self.when: dict[int, int] = {}  # the step that last undid a step, or did it again

    @property
    def now(self) -> State:
        return self.states[-1]

    def keep(self, author: str, target: int | None, delta: Delta) -> None:
        state = dict(self.now)
        for id, _, after in delta:
            if after is None:
                del state[id]
            else:
                state[id] = after
            self.versions[id] = len(self.states)
        self.states.append(state)
        self.steps.append((author, target, delta))

    def back(self, undo: bool, author: str | None) -> bool | None:
        """None: nothing to do. False: refused."""
        pile = [k for k in (self.done if undo else self.undone) if author in (None, self.steps[k][0])]
        # what was undone before something new came cannot be done again
        new = [k for k, (who, target, _) in enumerate(self.steps) if k and target is None and author in (None, who)]
        if not undo:
            pile = [k for k in pile if self.when[k] > max(new, default=0)]
        if not pile:
            return None
        k = max(pile) if undo else pile[-1]
        delta = self.steps[k][2]
        turned = [(id, b, a) for id, a, b in reversed(delta)] if undo else delta
        state: dict[int, Said | None] = dict(self.now)
        for id, before, after in turned:
            if state.get(id) != before:
                return False
            state[id] = after
        touched = {said.image for _, b, a in delta for said in (b, a) if said}
        for image in touched:
            kinds = [said.kind for said in state.values() if said and said.image == image and said.kind != "tag"]
            if "empty" in kinds and len(kinds) > 1:
                return False
        self.keep(author or "", k, turned)
        (self.done if undo else self.undone).remove(k)
        (self.undone if undo else self.done).append(k)
        self.when[k] = len(self.states) - 1
        return True


def box(size: int) -> Object:
    return Object("cat", (0.1, 0.2, size + 1.5, 3.0))


def run(store: Store, model: Model, images: list[int], author: str, ops: list[Any]) -> None:
    """The same changes to both, as one step."""
    delta: Delta = []
    number = len(model.states)
    state = dict(model.now)

    def put(id: int, said: Said | None) -> None:
        delta.append((id, state.get(id), said))
        if said is None:
            del state[id]
        else:
            state[id] = said

    def of(image: int, *kinds: str) -> list[int]:
        return [id for id, said in state.items() if said.image == image and said.kind in kinds]

    def version(id: int) -> int:
        return number if any(d[0] == id for d in delta) else model.versions[id]

    with store.revision(author) as step:
        for what, k, size in ops:
            image = images[k % 2]
            real = sorted(id for id, said in state.items() if said.kind != "empty")
            if what in ("add", "tag"):
                if what == "add":
                    for id in of(image, "empty"):
                        put(id, None)
                model.made += 1
                annotation = Annotation("tag", "cat", attributes={"size": size}) if what == "tag" else box(size)
                assert step.add(image, annotation).id == model.made
                put(model.made, Said(image, "tag" if what == "tag" else "box", size, author, number))
            elif what in ("change", "remove") and real:
                id = real[k % len(real)]
                was = state[id]
                if what == "remove":
                    step.remove(id, version=version(id))
                    put(id, None)
                    continue
                step.change(id, box(size), version=version(id))
                if (was.kind, was.size) != ("box", size):
                    for mark_ in of(was.image, "empty"):
                        put(mark_, None)
                    put(id, Said(was.image, "box", size, author, number))
            elif what == "empty":
                if of(image, "box"):
                    with pytest.raises(DataError):
                        step.mark_empty(image)
                else:
                    step.mark_empty(image)
                    if not of(image, "empty"):
                        model.made += 1
                        put(model.made, Said(image, "empty", None, author, number))
            elif what == "unmark":
                step.unmark_empty(image)
                for id in of(image, "empty"):
                    put(id, None)
            elif what == "clear":
                step.clear(image)
                for id in of(image, "box", "tag", "empty"):
                    put(id, None)
    if delta:
        model.keep(author, None, delta)
        model.done.append(number)


def seen(labels: tuple[Label, ...]) -> dict[int, Any]:
    found = {}
    for label in labels:
        annotation = label.annotation
        size = annotation.attributes.get("size") if annotation.box_px is None else annotation.box_px[2] - 1.5
        found[label.id] = label.image, annotation.kind, size, label.author
    return found


def plain(state: State) -> dict[int, Any]:
    return {id: (said.image, said.kind, said.size, said.author) for id, said in state.items()}


def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("new_store", ["sqlite"], indirect=True)
@examples(60)
@given(acts=ACTS)
def test_the_store_is_its_model(new_store: Callable[[], str], acts: list[Any]) -> None:
    is_its_model(new_store, acts)


@pytest.mark.parametrize("new_store", ["postgres", "mariadb"], indirect=True)
@examples(20)  # what is done is decided in one code for all databases; here only what they make of it
@given(acts=ACTS)
def test_the_store_on_a_server_is_its_model(new_store: Callable[[], str], acts: list[Any]) -> None:
    is_its_model(new_store, acts)


def is_its_model(new_store: Callable[[], str], acts: list[Any]) -> None:
    """Do the same to both, and compare."""
    now = datetime(2026, 1, 1, tzinfo=UTC)

    def clock() -> datetime:
        nonlocal now
        now += timedelta(seconds=1)
        return now

    model = Model()
    with Store.open(new_store(), clock=clock) as store:
        store.add_category("cat")
        images = [store.add_image(f"s3://{i}", name=str(i)) for i in range(2)]
        for act, arg in acts:
            if act in WHO:
                run(store, model, images, act, arg)
            else:
                expected = model.back(act == "undo", arg)
                go = store.undo if act == "undo" else store.redo
                if expected is False:
                    with pytest.raises(DataError, match="cannot be"):
                        go(arg)
                else:
                    assert go(arg) == (model.steps[-1][1] if expected else None)
            last = store.last_revision()
            assert last == len(model.states) - 1
        labels = [label for image in images for label in store.labels(image)]
        assert seen(tuple(labels)) == plain(model.now)
        assert {label.id: label.version for label in labels} == {id: model.versions[id] for id in model.now}
        for k, state in enumerate(model.states):
            assert seen(store.as_of(k)) == plain(state)
        for image, sample in zip(images, store.dataset(), strict=True):
            kinds = [said.kind for said in model.now.values() if said.image == image]
            boxes = kinds.count("box")
            assert (sample.objects is None) == (boxes == 0 and "empty" not in kinds)
            assert len(sample.objects or ()) == boxes
        assert store.check() == ()
        while (expected := model.back(True, None)) is True:
            assert store.undo() == model.steps[-1][1]
        if expected is False:  # somebody's own step was undone out of order, and what is left contradicts that
            assert any(act == "undo" and who is not None for act, who in acts)
            with pytest.raises(DataError, match="cannot be undone"):
                store.undo()
        else:
            assert store.undo() is None and model.done == []
            assert [label for image in images for label in store.labels(image)] == []
        assert seen(store.as_of(store.last_revision())) == plain(model.now)
        assert store.check() == ()
