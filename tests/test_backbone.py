"""Dyn-Perceiver: what is computed when, for which images, and by which formula."""

import copy
import math

import pytest
import torch
from torch import nn
from torchvision.models import regnet_y_400mf

from earlyexit import DynPerceiver
from earlyexit.model.backbone import Attention, AttentionBlock, Read

NAMES = {1: ["c2", "c3"], 2: ["c2", "c3", "c4"], 3: ["c2", "c3", "c4", "c5"], 4: ["c2", "c3", "c4", "c5"]}


@pytest.fixture
def backbone(nano):
    """A copy: tests hook into it."""
    return copy.deepcopy(nano.backbone)


def images(count=5, height=64, width=64):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def calls(backbone):
    """Names of the backbone's parts in the order in which they ran."""
    order = []

    def note(name):
        return lambda *_: order.append(name)

    backbone.stem.register_forward_hook(note("stem"))
    for group in ("stages", "reads", "transitions", "writes", "carries", "classifiers"):
        for i, part in enumerate(getattr(backbone, group)):
            part.register_forward_hook(note(f"{group}.{i}"))
    return order


STEPS = {
    1: "stem reads.0 stages.0 transitions.0 writes.0 reads.1 stages.1 transitions.1 writes.1 reads.2 classifiers.0",
    2: "stages.2 transitions.2 writes.2 reads.3 carries.0 classifiers.1",
    3: "stages.3 classifiers.2",
    4: "writes.3 carries.1 classifiers.3",
}


@torch.inference_mode()
def test_nothing_runs_before_it_is_asked_for(backbone, calls):
    stream, expected = backbone.exits(images(1)), []
    assert calls == []
    for exit in (1, 2, 3, 4):
        assert next(stream).index == exit
        expected += STEPS[exit].split()
        assert calls == expected
    with pytest.raises(StopIteration):
        next(stream)
    assert calls == expected


@torch.inference_mode()
def test_forward_gives_the_logits_of_the_exits(backbone):
    reached = list(backbone.exits(images()))
    assert [r.index for r in reached] == [1, 2, 3, 4]
    for logits, exit in zip(backbone(images()), reached, strict=True):
        assert logits.shape == (5, 20)
        assert torch.equal(logits, exit.logits)
        assert list(exit.features) == NAMES[exit.index]


@torch.inference_mode()
def test_c5_is_written_once_more_after_exit_3(backbone):
    third, fourth = list(backbone.exits(images()))[2:]
    assert torch.equal(third.features["c4"], fourth.features["c4"])
    assert (third.features["c5"] - fourth.features["c5"]).abs().max() > 1e-3
    torch.testing.assert_close(third.logits, backbone.classifiers[2](third.features["c5"].mean((2, 3))))


KEPT = [
    [torch.tensor([True, False, True, True, False]), torch.tensor([False, True, True]), torch.tensor([True, False])],
    [torch.tensor([0, 2, 3]), torch.tensor([1, 2]), torch.tensor([0])],
    [torch.tensor([3, 0, 2]), None, torch.tensor([0, 2])],
    [None, torch.tensor([4]), None],
]


@pytest.mark.parametrize("keeps", KEPT, ids=["masks", "indices", "another order", "once"])
@torch.inference_mode()
def test_kept_images_go_on_as_if_alone(backbone, keeps):
    alive, stream = torch.arange(5), backbone.exits(images())
    reached = next(stream)
    for keep in [*keeps, None]:
        alone = list(backbone.exits(images()[alive]))[reached.index - 1]
        torch.testing.assert_close(reached.logits, alone.logits, rtol=1e-4, atol=1e-5)
        assert list(reached.features) == list(alone.features)
        for name, feature in alone.features.items():
            torch.testing.assert_close(reached.features[name], feature, rtol=1e-4, atol=1e-5)
        if reached.index < 4:
            alive = alive if keep is None else alive[keep]
            reached = stream.send(keep)
    assert reached.index == 4
    assert len(reached.logits) == len(alive)


@torch.inference_mode()
def test_earlier_exits_keep_what_they_had(backbone):
    stream = backbone.exits(images())
    seen = [next(stream)]
    copies = [{name: feature.clone() for name, feature in seen[0].features.items()}]
    for keep in (torch.tensor([0, 1, 4]), None, torch.tensor([2])):
        seen.append(stream.send(keep))
        copies.append({name: feature.clone() for name, feature in seen[-1].features.items()})
    assert [len(exit.logits) for exit in seen] == [5, 3, 3, 1]
    for exit, copied in zip(seen, copies, strict=True):
        assert list(exit.features) == NAMES[exit.index]
        assert all(torch.equal(exit.features[name], feature) for name, feature in copied.items())


@pytest.mark.parametrize(("height", "width"), [(75, 101), (32, 33), (64, 96)])
@torch.inference_mode()
def test_any_size(backbone, height, width):
    last = list(backbone.exits(images(1, height, width)))[-1]
    height, width = math.ceil(height / 2), math.ceil(width / 2)
    for name, channels in zip(NAMES[4], (32, 64, 128, 192), strict=True):
        height, width = math.ceil(height / 2), math.ceil(width / 2)
        assert last.features[name].shape == (1, channels, height, width)
    assert torch.isfinite(last.logits).all()


@torch.inference_mode()
def test_another_trunk():
    trunk = regnet_y_400mf()
    backbone = DynPerceiver(trunk, 7, num_latents=16, depths=(1, 0, 1, 1), heads=(1, 1, 2, 2)).eval()
    assert backbone.out_channels == {"c2": 48, "c3": 104, "c4": 208, "c5": 440}
    assert backbone.latents.shape == (16, 32)
    assert [len(read.blocks) for read in backbone.reads] == [1, 0, 1, 1]
    assert [logits.shape for logits in backbone(images(2))] == [(2, 7)] * 4
    assert torch.equal(backbone.stem(images(2)), trunk.stem.eval()(images(2)))


@torch.inference_mode()
def test_latents_are_halved_between_stages(backbone):
    shapes = []
    for read in backbone.reads:
        read.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    backbone(images(2))
    assert shapes == [(2, 32, 32), (2, 16, 32), (2, 8, 64), (2, 4, 128)]


def test_images_do_not_see_one_another(backbone):
    batch = images(2).requires_grad_()
    for logits in backbone(batch):
        (grad,) = torch.autograd.grad(logits[0].sum(), batch, retain_graph=True)
        assert grad[0].abs().max() > 0
        assert grad[1].abs().max() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_latents": 12}, "multiple of 8, got 12"),
        ({"num_latents": 0}, "multiple of 8, got 0"),
        ({"depths": (1, 1, 1)}, r"four stages.*\(1, 1, 1\)"),
        ({"heads": (1, 1, 1, 1, 1)}, r"four stages.*\(1, 1, 1, 1, 1\)"),
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"heads": (3, 1, 1, 1), "depths": (1, 0, 0, 0)}, "heads must divide qkv_dim, got heads=3"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        DynPerceiver(regnet_y_400mf(), **{"num_classes": 3, **settings})


def test_a_trunk_needs_four_stages():
    trunk = regnet_y_400mf()
    trunk.trunk_output = trunk.trunk_output[:3]
    with pytest.raises(ValueError, match="got 3 in the trunk"):
        DynPerceiver(trunk, 3)


@pytest.mark.parametrize("heads", [1, 4])
@torch.inference_mode()
def test_attention_is_that_of_torch(heads):
    torch.manual_seed(1)
    ours = Attention(16, 12, 16, heads=heads)
    theirs = nn.MultiheadAttention(16, heads, kdim=12, vdim=12, batch_first=True)
    theirs.q_proj_weight.copy_(ours.query.weight)
    theirs.k_proj_weight.copy_(ours.key.weight)
    theirs.v_proj_weight.copy_(ours.value.weight)
    theirs.in_proj_bias.zero_()
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    queries, context = torch.randn(2, 5, 16), torch.randn(2, 9, 12)
    torch.testing.assert_close(ours(queries, context), theirs(queries, context, context)[0])


def softmax_attention(attention, queries, context):
    """One head, written out; with the position bias on the keys and a width unlike the queries'."""
    key = context @ attention.key.weight.T + attention.key_bias
    weights = (queries @ attention.query.weight.T @ key.transpose(1, 2) / key.shape[2] ** 0.5).softmax(2)
    return weights @ (context @ attention.value.weight.T) @ attention.out.weight.T + attention.out.bias


@torch.inference_mode()
def test_attention_block_by_hand():
    torch.manual_seed(2)
    block = AttentionBlock(16, 12, qkv_dim=6, widening=3, key_tokens=9)
    block.attention.key_bias.normal_()
    for norm in (block.query_norm, block.context_norm, block.mlp[0]):
        norm.weight.normal_()
        norm.bias.normal_()
    tokens, context = torch.randn(2, 5, 16), torch.randn(2, 9, 12)
    read = tokens + softmax_attention(block.attention, block.query_norm(tokens), block.context_norm(context))
    hidden = nn.functional.gelu(block.mlp[1](block.mlp[0](read)))
    assert hidden.shape == (2, 5, 48)
    torch.testing.assert_close(block(tokens, context), read + block.mlp[3](hidden))


@torch.inference_mode()
def test_self_attention_normalises_once():
    torch.manual_seed(3)
    block = AttentionBlock(16, heads=4)
    block.query_norm.weight.normal_()
    tokens = torch.randn(2, 5, 16)
    normed = block.query_norm(tokens)
    read = tokens + block.attention(normed, normed)
    torch.testing.assert_close(block(tokens), read + block.mlp(read))
    assert block.context_norm is None


def test_attention_block_errors():
    with pytest.raises(ValueError, match="takes no context"):
        AttentionBlock(16)(torch.zeros(1, 2, 16), torch.zeros(1, 2, 16))
    with pytest.raises(ValueError, match="needs a context"):
        AttentionBlock(16, 12)(torch.zeros(1, 2, 16))


# The first read: convolution and 7 x 7 means as one


@pytest.mark.parametrize("size", [(64, 64), (35, 49), (36, 50), (57, 42)])
def test_a_merged_read_is_the_published_one(size, monkeypatch):
    """What the latents get and how the weights would change are the same, and the map is not convolved as a whole."""
    torch.manual_seed(0)
    read, x = Read(8, 0, 1), torch.randn(3, 8, *size)
    z, found = torch.randn(3, 4, 8), []
    for read.first_read in ("published", "merged"):
        read.zero_grad()
        x.grad, _ = None, x.requires_grad_()
        out = read(z, x)
        (out**2).sum().backward()
        found.append([out, x.grad, read.local.weight.grad.clone(), read.local.bias.grad.clone()])
        monkeypatch.setattr(read.local, "forward", None)
    for published, merged in zip(*found, strict=True):
        torch.testing.assert_close(merged, published, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(28, 28), (64, 40), (37, 64)])
def test_other_maps_are_read_as_published(size):
    torch.manual_seed(0)
    reads = [Read(8, 0, 1, way) for way in ("merged", "published")]
    reads[1].load_state_dict(reads[0].state_dict())
    x, z = torch.randn(2, 8, *size), torch.randn(2, 4, 8)
    assert torch.equal(reads[0](z, x), reads[1](z, x))


def test_first_reads_have_names():
    with pytest.raises(ValueError, match="first_read must be one of .*'merged'.*got 'fast'"):
        DynPerceiver(regnet_y_400mf(), 3, first_read="fast")
