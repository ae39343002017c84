"""Texts varied for a distillation: what frames them stays, and no token comes from elsewhere."""

import pytest
import torch

from lorascope.hf import refine

pytestmark = pytest.mark.hf


def test_some_tokens_are_exchanged_for_others_of_the_batch():
    tokens = torch.arange(10, 10 + 400).reshape(20, 20)
    mask = (torch.arange(20) < torch.arange(1, 21)[:, None]).long()  # texts of one to twenty tokens
    tokens[mask == 0] = 0
    varied = refine._varied({"input_ids": tokens, "attention_mask": mask}, torch.Generator().manual_seed(0))
    made = varied["input_ids"]
    assert torch.equal(made[mask == 0], tokens[mask == 0])
    inside = torch.zeros(20, 20, dtype=torch.bool)
    for row in range(20):
        inside[row, 1:row] = True  # neither the first nor the last of row + 1 tokens
    assert torch.equal(made[~inside], tokens[~inside])
    assert set(made[inside].tolist()) <= set(tokens[inside].tolist())
    share = float((made != tokens)[inside].double().mean())
    assert 0.12 < share < 0.28
    assert varied["attention_mask"] is mask


@pytest.mark.parametrize("length", [1, 2])
def test_texts_without_an_inside_stay(length):
    batch = {"input_ids": torch.full((3, length), 7)}
    assert torch.equal(refine._varied(batch, torch.Generator())["input_ids"], batch["input_ids"])


def test_left_padding():
    tokens = torch.tensor([[0, 0, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6]])
    batch = {"input_ids": tokens, "attention_mask": (tokens > 0).long()}
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        made = refine._varied(batch, generator)["input_ids"]
        assert made[0, :3].tolist() == [0, 0, 5]
        assert (made[0, 5], made[1, 0], made[1, 5]) == (8, 1, 6)
