"""Cached gradients are the plain ones, and hold one chunk's activations at a time."""

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from recdistill.objectives.cached import encode_cached
from recdistill.objectives.infonce import infonce

ROWS = 11


class Towers(nn.Module):
    """Query and target through a network with dropout and, where asked, modality dropout by torch's own draw."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 8))
        self.temperature = nn.Parameter(torch.tensor(0.2))
        self.activations: list[StorageWeakRef] = []
        self.peak = 0
        self.net[1].register_forward_hook(self._count)

    def _count(self, module, inputs, output) -> None:
        """How many activations are held at once, and at most."""
        self.activations.append(StorageWeakRef(output.untyped_storage()))
        self.peak = max(self.peak, self.alive())

    def alive(self) -> int:
        return sum(not activation.expired() for activation in self.activations)

    def forward(self, chunk):
        query, target = chunk
        kept = torch.rand(len(query)) > 0.3
        return self.net(query * kept[:, None]), self.net(target), kept

    def loss(self, query, target, kept):
        return infonce(query, target, torch.arange(len(query)), temperature=self.temperature, weight=kept.float())


def batch(sizes):
    generator = torch.Generator().manual_seed(1)
    query, target = torch.randn(2, sum(sizes), 4, generator=generator)
    return list(zip(query.split(sizes), target.split(sizes), strict=True))


def trained(towers, chunks, encode):
    """Loss, gradients and torch's next draw, of one step."""
    torch.manual_seed(7)
    loss = towers.loss(*encode(towers, chunks))
    after = torch.rand(3)
    loss.backward()
    return [loss.detach(), after, torch.rand(3), *(parameter.grad for parameter in towers.parameters())]


def plain(towers, chunks):
    return tuple(torch.cat(each) for each in zip(*(towers(chunk) for chunk in chunks), strict=True))


@pytest.mark.parametrize("sizes", [[11], [4, 4, 3], [1, 2, 8], [1] * 11])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_equals_plain_in_value_gradient_and_random_state(sizes, dropout):
    chunks = batch(sizes)
    expected = trained(Towers(dropout), chunks, plain)
    found = trained(Towers(dropout), chunks, encode_cached)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_without_dropout_chunks_do_not_show():
    class Whole(Towers):
        def forward(self, chunk):
            return self.net(chunk[0]), self.net(chunk[1]), torch.ones(len(chunk[0]))

    found = trained(Whole(0.0), batch([3, 3, 5]), encode_cached)
    expected = trained(Whole(0.0), batch([ROWS]), plain)
    torch.testing.assert_close(found, expected)


def test_the_test_sees_dropout():
    chunks = batch([4, 4, 3])
    assert not torch.equal(trained(Towers(0.5), chunks, plain)[0], trained(Towers(0.0), chunks, plain)[0])


def test_holds_the_activations_of_one_chunk_at_a_time():
    chunks = batch([1] * ROWS)
    peaks = []
    for encode in (plain, encode_cached):
        towers = Towers()
        trained(towers, chunks, encode)
        peaks.append(towers.peak)
        assert towers.alive() == 0
    assert peaks[0] == 2 * ROWS  # of query and target
    assert peaks[1] == 2


def test_second_moments_of_the_batch_are_those_of_all_chunks():
    """A loss that is no mean over rows: only the joined vectors give it."""
    chunks = batch([5, 6])
    losses = []
    for encode in (plain, encode_cached):
        towers = Towers(0.0)
        torch.manual_seed(7)
        query, _, _ = encode(towers, chunks)
        loss = (query.T @ query).square().sum()
        loss.backward()
        losses.append([loss, towers.net[0].weight.grad])
    torch.testing.assert_close(losses[1], losses[0])
