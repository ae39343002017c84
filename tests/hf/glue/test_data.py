"""Rows from files: read as they are, and every way in which a file can be wrong said with its place."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from hf import tiny
from hf.glue import made
from lorascope.errors import CheckpointError, SpecError
from lorascope.hf.glue import load_data, read_split, task_named
from lorascope.hf.glue.base import open_base
from lorascope.hf.glue.order import batched_order
from lorascope.hf.glue.search import held_out

pytestmark = pytest.mark.hf


def split(path, text, task="sst2"):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_split(path, task_named(task))


def test_texts_are_taken_as_they_are(tmp_path):
    rows = split(
        tmp_path / "dev.tsv", '\ufeffidx\tsentence1\tsentence2\tlabel\n0\t" NA\t\t1\n1\tit \u2028 is "so"\t\t0\n'
    )
    assert rows.first == ('" NA', 'it \u2028 is "so"')
    assert (rows.second, rows.labels) == ((), (1, 0))


def test_columns_are_found_by_name_and_lines_may_end_as_on_windows(tmp_path):
    rows = split(tmp_path / "dev.tsv", "label\tsentence2\tmore\tsentence1\r\n2.5\tb\tx\ta\r\n", "stsb")
    assert (rows.first, rows.second, rows.labels) == (("a",), ("b",), (2.5,))


@pytest.mark.parametrize(
    ("text", "task", "said"),
    [
        ("idx\tsentence1\n0\ta\n", "sst2", ", line 1: the header must name sentence1, label"),
        ("idx\tsentence1\tlabel\n0\ta\t1\n", "rte", "missing: sentence2, got idx, sentence1, label"),
        ("", "sst2", ", line 1: the header must name sentence1, label (a file of GLUE rows has idx"),
        (
            "sentence1\tlabel\na\t1\nb\t2\nc\t-1\n",
            "sst2",
            ", line 3: label '2'; line 4: label '-1' (labels of sst2 are",
        ),
        ("sentence1\tlabel\na\t0.5\n", "sst2", ", line 2: label '0.5'"),
        (
            "sentence1\tsentence2\tlabel\na\tb\t5.1\n",
            "stsb",
            ", line 2: label '5.1' (labels of stsb are numbers from 0",
        ),
        ("sentence1\tsentence2\tlabel\na\tb\tnan\n", "stsb", ", line 2: label 'nan'"),
        ("sentence1\tlabel\n", "sst2", "a split must have at least one row, got the header alone"),
        ("sentence1\tlabel\na\t1\nb\tc\t0\n", "sst2", ", line 3: 3 fields where the header has 2"),
        ('"sentence1"\t"label"\n"a"\t"1"\n', "sst2", ", line 1: fields must not be quoted"),
        (
            'sentence1\tlabel\nplain\t0\n"he said ""no"""\t1\n',
            "sst2",
            ', line 3: fields must not be quoted, got "he said',
        ),
        ('sentence1\tlabel\n"a"\t0\n"b"\t1\n', "sst2", ", line 2: fields must not be quoted"),
        (b"sentence1\tlabel\na\t1\nb\xff\t0\n", "sst2", ", line 3: must be UTF-8, got the byte 0xff"),
        ("sentence1\tsentence2\tlabel\na\t\t1\nb\t\t0\n", "mrpc", ", line 2: mrpc needs texts, got an empty sentence2"),
        ("sentence1\tlabel\n" + "a\tx\n" * 9, "sst2", "line 4: label 'x'; and 6 more"),
        ("sentence1\tlabel\n \t1\n\t0\n", "sst2", ", line 2: sst2 needs texts, got an empty sentence1 in every row"),
        ("sentence1\tlabel\tlabel\na\t1\t0\n", "sst2", ", line 1: a column must be named once, got label twice"),
        ("sentence1\tlabel\na\t1\n\nb\t0\n", "sst2", ", line 3: an empty line (a tab in a text"),
        *(
            (f"sentence1\tlabel\na\t{label}\n", "sst2", f", line 2: label {label!r} (labels of sst2")
            for label in ("0_1", "1e0", "\u0661", " 1 ", "", "positive", "-0", "1.5", "inf", "+1")
        ),
        *(
            (f"sentence1\tsentence2\tlabel\na\tb\t{label}\n", "stsb", f", line 2: label {label!r} (labels of stsb")
            for label in ("0_5", "-1", "\u0661", "2,5", "", "5.001", "inf", ".")
        ),
        ('sentence1\tlabel\n"a"\t1\n', "sst2", ", line 2: fields must not be quoted"),
        ('idx\t"sentence1"\tlabel\n0\ta\t1\n', "sst2", ", line 1: fields must not be quoted"),
        (
            'sentence1\tsentence2\tlabel\na\t"b"\t1\nc\t"d"\t0\n',
            "mrpc",
            ', line 2: fields must not be quoted, got "b"',
        ),
    ],
)
def test_a_wrong_file_is_told_by_name_and_line(tmp_path, text, task, said):
    path = tmp_path / "train.tsv"
    with pytest.raises(SpecError) as caught:
        split(path, text, task)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


def test_missing_files_and_no_way_to_the_hub(tmp_path, monkeypatch):
    with pytest.raises(SpecError, match=r"--data must hold .*train.tsv and .*dev.tsv, found no .*; name the folder"):
        load_data(task_named("sst2"), tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(
        SpecError, match=r"cannot be reached, and there is no local copy .*give --data a folder that has"
    ):
        load_data(task_named("sst2"), None)


@pytest.mark.parametrize(("label", "value"), [("3", 3), ("3.", 3), (".5", 0.5), ("2.25", 2.25), ("1e-1", 0.1)])
def test_numbers_as_they_are_written(tmp_path, label, value):
    rows = split(tmp_path / "dev.tsv", f"sentence1\tsentence2\tlabel\na\tb\t{label}\n\n\r\n", "stsb")
    assert rows.labels == (value,)


def test_the_matched_development_set_by_its_official_name(tmp_path):
    folder = made.task(tmp_path, "mnli", made.three_way)
    wanted = load_data(task_named("mnli"), folder)
    (folder / "mnli" / "dev.tsv").rename(folder / "mnli" / "dev_matched.tsv")
    found = load_data(task_named("mnli"), folder)
    assert (found.dev, found.digest, found.others) == (wanted.dev, wanted.digest, {})


def test_both_development_sets_of_mnli(tmp_path):
    folder = made.task(tmp_path, "mnli", made.three_way)
    assert load_data(task_named("mnli"), folder).others == {}
    made.write(folder / "mnli" / "dev_mismatched.tsv", made.three_way(7, 9))
    found = load_data(task_named("mnli"), folder)
    assert [(name, len(rows)) for name, rows in found.others.items()] == [("_mismatched", 7)]


def test_a_digest_is_of_the_rows_and_not_of_the_folder(tmp_path):
    digests = [load_data(task_named("stsb"), made.task(tmp_path / name, "stsb", made.similar)).digest for name in "ab"]
    other = load_data(task_named("stsb"), made.task(tmp_path / "c", "stsb", made.similar, dev=39)).digest
    assert digests[0] == digests[1] != other


def test_rows_held_out_are_not_trained_on(tmp_path):
    data = load_data(task_named("stsb"), made.task(tmp_path, "stsb", made.similar))
    inner = held_out(data, 1000)
    assert (len(inner.train), len(inner.dev)) == (96, 24)
    both = sorted(zip(inner.train.second + inner.dev.second, inner.train.first + inner.dev.first, strict=True))
    assert both == sorted(zip(data.train.second, data.train.first, strict=True))


def far_token(content):
    content["model"]["vocab"]["w1"] = 900


def no_frame(content):
    content["post_processor"] = None


def with_changed(folder, change):
    path = Path(folder) / "tokenizer.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: made.encoder(folder, vocab_size=9), "it has 28 tokens, the model 9"),
        (lambda folder: made.encoder(folder, pad_token_id=2), "it pads with token 0, the model with 2"),
        (lambda folder: made.encoder(folder, type_vocab_size=1), "it tells 2 kinds of tokens apart, the model 1"),
        (lambda folder: with_changed(made.encoder(folder), far_token), "it has a token of number 900"),
        (lambda folder: with_changed(made.encoder(folder), no_frame), "it frames no text"),
    ],
)
def test_a_tokenizer_that_does_not_fit(tmp_path, make, said):
    make(tmp_path / "base")
    with pytest.raises(CheckpointError) as caught:
        open_base(str(tmp_path / "base"), 16)
    assert said in str(caught.value)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", "{", "config.json"),
        ("config.json", "[]", "config.json"),
        ("config.json", '{"model_type": "nothing"}', "config.json"),
        ("tokenizer.json", "{", "must be one that transformers reads"),
        ("tokenizer.json", "{}", "must be one that transformers reads"),
    ],
)
def test_damaged_files_of_a_checkpoint(tmp_path, name, content, said):
    made.encoder(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        open_base(str(tmp_path), 16)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5", "vit"])
def test_other_models_than_encoders_of_texts(tmp_path, kind):
    tiny.save(tiny.make(kind), tmp_path)
    made.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="must be an encoder of texts, such as BERT or RoBERTa, got a"):
        open_base(str(tmp_path), 16)


def test_a_model_without_a_tokenizer(tmp_path):
    made.encoder(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match="must have its tokenizer, found none in"):
        open_base(str(tmp_path), 16)


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "MPNet", "IBert", "RobertaPreLayerNorm", "Electra"])
def test_rows_are_as_long_as_the_model_has_positions(tmp_path, kind):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = getattr(transformers, f"{kind}Config")(
        **sizes, vocab_size=28, max_position_embeddings=20, pad_token_id=0, type_vocab_size=2
    )
    model = getattr(transformers, f"{kind}Model")(config).eval()
    model.save_pretrained(tmp_path)
    made.tokenizer().save_pretrained(tmp_path)

    def fits(length):
        with torch.no_grad():
            model(input_ids=torch.full((1, length), 5))

    most = {"Bert": 20, "Electra": 20, "MPNet": 18}.get(kind, 19)
    open_base(str(tmp_path), most)
    fits(most)
    with pytest.raises((IndexError, RuntimeError)):
        fits(most + 1)
    with pytest.raises(SpecError, match=f"--length must be at most the {most} positions of .*, got {most + 1}"):
        open_base(str(tmp_path), most + 1)


def test_positions_that_are_counted_from_no_padding_token(tmp_path):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    for kind in ("Bert", "Roberta"):
        folder = tmp_path / kind
        config = getattr(transformers, f"{kind}Config")(**sizes, vocab_size=28, pad_token_id=0, type_vocab_size=2)
        getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
        made.tokenizer().save_pretrained(folder)
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token_id": None}))
    assert open_base(str(tmp_path / "Bert"), 16).config.pad_token_id is None
    with pytest.raises(CheckpointError, match=r'got "pad_token_id": null; write the tokenizer\'s, 0, there'):
        open_base(str(tmp_path / "Roberta"), 16)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_choice_of_rates_takes_a_row_to_learn_from_and_one_to_judge_by(tmp_path, count):
    rows = load_data(task_named("rte"), made.task(tmp_path, "rte", made.two_way, train=count))
    if count > 1:
        inner = held_out(rows, 500)
        assert (len(inner.train), len(inner.dev)) == (count - 1, 1)
        return
    with pytest.raises(SpecError, match=r"to choose among learning rates takes 2 training rows, .* got 1; add rows"):
        held_out(rows, 500)


def test_no_rows_make_no_order():
    with pytest.raises(SpecError, match="training takes at least 1 row, got none"):
        batched_order([], 2, 1, torch.Generator().manual_seed(0))
