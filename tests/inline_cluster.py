"""A cluster of none: calls are made here, one after the other, in an order that a seed decides."""

import random
from contextlib import contextmanager


class Future:
    def __init__(self, function, arguments, named):
        self.function, self.arguments, self.named = function, arguments, named
        self.key = id(self)
        self.value = self

    def result(self):
        if self.value is self:
            arguments = [resolved(one) for one in self.arguments]
            self.value = self.function(*arguments, **self.named)
        return self.value


def resolved(value):
    if isinstance(value, Future):
        return value.result()
    return [resolved(one) for one in value] if isinstance(value, list) else value


class InlineCluster:
    """What `streamtrain.scale.cluster.Cluster` is to those who use it, with `n` workers, and calls in any order."""

    def __init__(self, n=1, seed=0):
        self._n, self._random = n, random.Random(seed)
        self.client = self

    def threads(self):
        return [f"inline-{number}" for number in range(self._n)]

    def who_has(self, futures):
        return {one.key: [self._random.choice(self.threads())] for one in futures}

    def submit(self, function, *arguments, workers=None, allow_other_workers=False, **named):
        return Future(function, arguments, named)

    def gathered(self, futures, on_done=lambda n: None):
        order = list(range(len(futures)))
        self._random.shuffle(order)
        for n, place in enumerate(order):
            futures[place].result()
            on_done(n + 1)
        return [one.result() for one in futures]


@contextmanager
def inline(n=1, seed=0):
    yield InlineCluster(n, seed)
