import dataclasses
from typing import Any

import pytest
import yaml

from distreid.common.errors import UserError
from distreid.config import SetConfig, config_from_dict, load_config, to_dict, to_yaml

BASE = {"output": "runs/x", "source": {"data": "a.arrow"}, "target": {"data": "b.arrow"}}


def test_defaults_are_the_papers() -> None:
    config = config_from_dict(BASE)
    assert (config.input.height, config.input.width) == (384, 128)
    assert (config.adapt.optimizer.lr_backbone, config.adapt.optimizer.lr_new) == (1.5e-4, 3e-5)
    assert (config.adapt.epochs, config.adapt.batch_size, config.loss.epsilon) == (260, 32, 0.9)
    assert (config.labels.min_samples, config.labels.p, config.labels.k1, config.labels.k2) == (4, 1.6e-3, 30, 6)
    assert config.pretrain.optimizer.lr_new == 0.1, "a group may override its part's defaults"


def test_overriding_one_key_keeps_its_siblings_defaults() -> None:
    config = config_from_dict({**BASE, "pretrain": {"optimizer": {"momentum": 0.8}}})
    assert config.pretrain.optimizer.momentum == 0.8 and config.pretrain.optimizer.lr_new == 0.1


def test_an_override_with_nothing_behind_it_takes_a_text_back(tmp_path) -> None:
    (tmp_path / "c.yaml").write_text("output: o\nsource: {data: s}\ntarget: {data: t}\npretrain: {checkpoint: runs/other}\n")
    assert load_config(tmp_path / "c.yaml").pretrain.checkpoint == "runs/other"
    assert load_config(tmp_path / "c.yaml", ["pretrain.checkpoint="]).pretrain.checkpoint == ""
    with pytest.raises(UserError, match=r"adapt\.rounds=None must be a whole number"):
        load_config(tmp_path / "c.yaml", ["adapt.rounds="])


def test_yaml_and_overrides(tmp_path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(BASE))
    config = load_config(file, ["adapt.epochs=3", "source.cameras=[1, 2]", "labels.p=1e-3", "runtime.gpu=no", "adapt.rounds=2"])
    assert (config.adapt.epochs, config.source.cameras, config.labels.p, config.runtime.gpu) == (3, [1, 2], 1e-3, "no")
    file.write_text(to_yaml(config))
    assert load_config(file) == config


def test_who_writes_p_means_it_to_be_used() -> None:
    """contrast chooses eps by the labels' quality unless told otherwise."""
    base = BASE | {"method": "contrast"}
    assert config_from_dict(base).labels.eps == "quality" and config_from_dict(BASE).labels.eps == "proportion"
    for tree, overrides in ((base | {"labels": {"p": 0.01}}, []), (base, ["labels.p=0.01"])):
        assert config_from_dict(tree, overrides).labels.eps == "proportion"
    again = config_from_dict(yaml.safe_load(to_yaml(config_from_dict(base))))
    assert again == config_from_dict(base) and again.labels.eps == "quality"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("adapt.epoch=3", "unknown key 'adapt.epoch'.*did you mean 'adapt.epochs'"),
        ("optimizer.clip=1", r"did you mean 'pretrain.optimizer'\?"),  # as CHANGELOG shortens it; runtime is like it, and is not it
        ("seed=99999999999999999999", "seed=99999999999999999999 must be between -9223372036854775807 and 9223372036854775807"),
        ("epochs=3", "did you mean '(adapt|pretrain).epochs'"),
        ("adapt.epochs=three", "adapt.epochs='three' must be a whole number"),
        ("adapt.epochs=2.5", "adapt.epochs=2.5 must be a whole number"),
        ("model.attention=sharde", "did you mean 'shared'"),
        ("labels.p=2", "must not be above 1"),
        ("labels.k1=0", "labels.k1=0 must be greater than 0"),
        ("model=resnet50", "model is a group of keys"),
        ("source.cameras=1", "must be a list"),
        ("source.identities=[5, 2]", "start < stop"),
        ("runtime.channels_last=1", "must be one of auto, true, false"),
        ("runtime.channels_last=ture", "did you mean 'true'"),
        ("runtime.precision=fp61", "runtime.precision='fp61' must be one of auto, fp32, bf16, fp16"),
        ("output=", "output"),
        ("seed", "is not an override"),
        ("pretrain.optimizer.clip=-1", r"pretrain.optimizer.clip=-1 must be 0 or more"),
        ("adapt.optimizer.clip=.inf", "adapt.optimizer.clip=inf must be a finite number"),
        ("adapt.instances=0", "adapt.instances=0 must be greater than 0"),
        ("runtime.accumulate=2", r"runtime.accumulate=2 does not divide what each of 1 worker\(s\) gets of the 1 groups"),
        ("runtime.min_workers=2", "runtime.min_workers=2 must not be above runtime.workers=1"),
        ("runtime.zero_stage=4", "runtime.zero_stage=4 must be one of 0, 1, 2, 3"),
        ("labels.k2=31", "labels.k2=31 must not be above labels.k1=30"),
        ("labels.k2_intra=6", "labels.k2_intra=6 must not be above labels.k1_intra=5"),
        ("labels.tasks=0", "labels.tasks=0 must be greater than 0"),
        ("runtime.label_gpus=some", "runtime.label_gpus='some' must be auto, or a number of 0 or more"),
        ("runtime.label_gpus=-1", "runtime.label_gpus=-1 must be auto, or a number of 0 or more"),
        ("runtime.label_gpus=true", "runtime.label_gpus=True must be auto, or a number of 0 or more"),
        ("labels.neighbours=hsnw", "did you mean 'hnsw'"),
        ("runtime.workers=3", "adapt.batch_size=32|pretrain.batch_size=32 cannot be divided"),
        ("runtime.workers=2", r"batchnorm_group=32 does not divide the 16.*choose one of \[2, 4, 8, 16\]"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(override: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        config_from_dict(BASE, [override])
    assert "\n" not in str(caught.value)


# Of each kind of bound, the last value inside and one outside.
BOUNDS = [
    ("input.height", 1, 0, "must be greater than 0"),
    ("input.flip", 1.0, 1.1, "must not be above 1"),
    ("input.erase", 0.0, -0.1, "must be 0 or more"),
    ("pretrain.epochs", 0, -1, "must be 0 or more"),
    ("adapt.epochs", 0, -1, "must be 0 or more"),
    ("adapt.optimizer.momentum", 0.99, 1, "must be below 1"),
    ("pretrain.optimizer.step_epochs", 1, 0, "must be greater than 0"),
    ("loss.epsilon", 1.0, 2, "must not be above 1"),
    ("loss.domain_weight", 0.0, -1, "must be 0 or more"),
    ("labels.eps_value", 0.9, 1, "must be below 1"),
    ("evaluate.batch_size", 1, 0, "must be auto, or a whole number greater than 0"),
    ("runtime.hang_timeout", 0.0, -1, "must be 0 or more"),
    ("seed", 0, -1, "must be 0 or more"),
    ("edaan.lr", 0.0, -1, "must be 0 or more"),
    ("edaan.beta1", 0.0, 1, "must be below 1"),
    ("edaan.network.dropout", 0.0, 1, "must be below 1"),
    ("edaan.network.attention_start", 0.1, 0, "must be greater than 0"),
]


@pytest.mark.parametrize(("key", "inside", "outside", "said"), BOUNDS, ids=[bound[0] for bound in BOUNDS])
def test_bounds(key: str, inside: float, outside: float, said: str) -> None:
    tree = to_dict(config_from_dict(BASE, [f"{key}={inside}"]))
    for part in key.split("."):
        tree = tree[part]
    assert tree == inside and type(tree) is type(inside)
    with pytest.raises(UserError, match=f"configuration: {key}={outside} {said}$"):
        config_from_dict(BASE, [f"{key}={outside}"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("adapt.epochs='3'", "adapt.epochs='3' must be a whole number"),
        ("adapt.epochs=1.0", "adapt.epochs=1.0 must be a whole number"),
        ("adapt.epochs=true", "adapt.epochs=True must be a whole number"),
        ("labels.k1=30.0", "labels.k1=30.0 must be a whole number"),
        ("labels.p=true", "labels.p=True must be a number"),
        ("labels.p=little", "labels.p='little' must be a number"),
        ("labels.p=.nan", "labels.p=nan must be a finite number"),
        ("model.neck=1", "model.neck=1 must be true or false"),
        ("model.last_stride=true", "model.last_stride=True must be a whole number"),
        ("runtime.zero_stage=1.0", "runtime.zero_stage=1.0 must be a whole number"),
        ("runtime.channels_last=1.0", "runtime.channels_last=1.0 must be one of auto, true, false"),
        ("source.cameras=[1, b]", "source.cameras='b' must be a whole number"),
        ("source.identities=[5]", "must be .start, stop. with 0 <= start < stop"),
        ("output=3", "output=3 must be text"),
        ("seed=", "seed=None must be a whole number"),
        ("groups={}", "unknown key 'groups'"),
        ("edaan.network=[1]", r"edaan.network is a group of keys \(width, .*\), found \[1\]"),
        ("method=damm", r"method='damm' must be one of daam, edaan.* \(did you mean 'daam'\?\)"),
    ],
)
def test_a_value_of_another_type_is_not_bent_to_fit(override: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        config_from_dict(BASE, [override])


def test_a_value_is_also_checked_where_code_changes_it() -> None:
    config = config_from_dict(BASE)
    config.adapt.rounds = 2
    changed = dataclasses.replace(config, output="runs/y")
    assert (changed.adapt.rounds, changed.output, config.output) == (2, "runs/y", "runs/x")
    assert changed.groups == config.groups and to_dict(changed) == to_dict(config) | {"output": "runs/y"}
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        config.adapt.rounds = -1
    assert config.adapt.rounds == 2


def test_labels_on_a_gpu_that_they_may_not_take() -> None:
    with pytest.raises(
        UserError, match=r"labels\.device=cuda needs a GPU for the labelling actor: set runtime\.label_gpus to auto"
    ):
        config_from_dict(BASE, ["labels.device=cuda", "runtime.label_gpus=0"])
    assert config_from_dict(BASE, ["labels.device=cuda"]).runtime.label_gpus == "auto"


@pytest.mark.parametrize("other", ["runtime.workers=0", "runtime.precision=fp16", "runtime.compile=true"])
def test_what_deepspeed_cannot_do(other: str) -> None:
    with pytest.raises(UserError, match=r"runtime\.strategy=deepspeed"):
        config_from_dict(BASE, ["runtime.strategy=deepspeed", other])


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["labels.neighbours=ivf", "labels.camera_aware=true"], "goes with neither labels.camera_aware nor labels.tasks"),
        (["labels.eps=quality", "labels.p=0.01"], "labels.eps=quality does not use labels.p=0.01: set labels.eps=proportion"),
        (["labels.neighbours=ivf", "labels.tasks=2"], "goes with neither labels.camera_aware nor labels.tasks"),
        (["labels.tasks=2", "runtime.workers=0"], "labels.tasks=2 needs Ray"),
    ],
)
def test_label_settings_that_do_not_go_together(overrides: list[str], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        config_from_dict(BASE, overrides)


def test_pk_must_fit_the_batch() -> None:
    with pytest.raises(UserError, match=r"adapt\.instances=3 does not divide the 16 images"):
        config_from_dict(BASE, ["adapt.sampler=pk", "adapt.instances=3"])


def test_files_that_are_not_configurations(tmp_path) -> None:
    with pytest.raises(UserError, match="no such configuration"):
        load_config(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [1, 2")
    with pytest.raises(UserError, match="not valid YAML"):
        load_config(bad)
    bad.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(UserError, match="not valid YAML"):
        load_config(bad)
    bad.write_text("just text")
    with pytest.raises(UserError, match="keys and values"):
        load_config(bad)


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("true", True), ("false", False)])
def test_the_machine_decides_unless_a_file_does(text: str, value: bool | str) -> None:
    usual = config_from_dict(BASE).runtime
    assert (usual.precision, usual.channels_last) == ("auto", "auto")
    assert config_from_dict(BASE, [f"runtime.channels_last={text}"]).runtime.channels_last == value


@pytest.mark.parametrize("text", ["", "adapt:\n", "adapt:\n  optimizer:\n", "source: {cameras: }\n", "# nothing\n---\n"])
def test_an_empty_group_is_its_defaults(tmp_path, text: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    keys = ["output=runs/x", "source.data=a.arrow", "target.data=b.arrow"]
    assert load_config(file, keys) == config_from_dict(BASE)
    assert load_config(file, [*keys, "adapt.optimizer.momentum=0.5"]).adapt.optimizer.momentum == 0.5


def test_a_list_where_a_group_belongs(tmp_path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("adapt: [3]\n")
    with pytest.raises(UserError, match=r"c.yaml: adapt is a group of keys \(rounds, epochs.*found \[3\]"):
        load_config(file)
    with pytest.raises(UserError, match=r"adapt.rounds: 'adapt' is a group of keys, found \[3\]"):
        load_config(file, ["adapt.rounds=3"])


def test_home_and_variables_in_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SETS", "/sets")
    monkeypatch.delenv("GONE", raising=False)
    tree = {"output": "~/runs/x", "source": {"data": "$SETS/a.arrow", "extra": "${SETS}/b"}, "target": {"data": "$HOME/t"}}
    config = config_from_dict(tree, ["model.weights=~/w.pt", "pretrain.checkpoint=$SETS/run"])
    assert (config.output, config.target.data) == ("/home/me/runs/x", "/home/me/t")
    assert (config.source.data, config.source.extra) == ("/sets/a.arrow", "/sets/b")
    assert (config.model.weights, config.pretrain.checkpoint) == ("/home/me/w.pt", "/sets/run")
    with pytest.raises(UserError, match=r"output=.GONE/x: the environment variable GONE is not set"):
        config_from_dict(tree, ["output=$GONE/x"])


def test_an_old_key_is_taken_and_named_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distreid.config.read._named", set())
    tree = {"method": "edaan", "output": "o", "source": {"data": "s"}, "target": {"data": "t"}, "input": {"pad": 0, "erase": 0.0}}
    old = {"kept_view": True, "keep_weight": 2.0, "keep_area": 0.2}  # 0.1.0
    for _ in range(2):
        how = to_dict(config_from_dict(tree | {"edaan": old}))["edaan"]
    assert (how["foreground_view"], how["area_prior_weight"], how["area_prior"]) == (True, 2.0, 0.2) and not set(old) & set(how)
    assert [record.getMessage() for record in caplog.records] == [
        f"edaan.{before} is now called edaan.{now}"
        for before, now in zip(old, ("foreground_view", "area_prior_weight", "area_prior"), strict=True)
    ]
    assert not to_dict(config_from_dict(tree | {"edaan": old}, ["edaan.kept_view=false"]))["edaan"]["foreground_view"]  # 0.1.0
    with pytest.raises(UserError, match=r"edaan\.kept_view is edaan\.foreground_view under its old name"):  # 0.1.0
        config_from_dict(tree | {"edaan": old | {"foreground_view": True}})


SETS = ["a.arrow", {"data": "~/b", "format": "names", "cameras": [1, 2]}]


def test_a_list_of_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    tree = {"output": "x", "source": SETS, "target": {"data": "t"}}
    config = config_from_dict(tree)
    assert config.source.sets == [SetConfig("a.arrow"), SetConfig("/home/me/b", "names", cameras=[1, 2])] and config.source.given
    assert config_from_dict(to_dict(config)) == config and tree["source"] is SETS and SETS[0] == "a.arrow"
    long = config_from_dict(tree | {"source": {"sets": SETS, "balance": True}})
    assert long == config_from_dict(tree, ["source.balance=true"]) != config
    changed = ["source=[c, d]", "source.0.format=names", "source.sets.1.data=e", "source.1.cameras=[3]", "target=[f]"]
    one, two = SetConfig("c", "names"), SetConfig("e", cameras=[3])
    assert config_from_dict(tree, changed).source.sets == [one, two]
    assert config_from_dict(tree, changed).target.members() == [SetConfig("f")]
    also = config_from_dict(tree | {"source": {"data": "a", "also": ["b"], "format": "names"}})
    assert also.source.members() == [SetConfig("a", "names"), SetConfig("b", "names")]


@pytest.mark.parametrize(
    ("source", "overrides", "expected"),
    [
        (["a", {"dta": "b"}], [], r"unknown key 'source.sets.1.dta' \(did you mean 'source.sets.1.data'\?\)"),
        (["a", {"data": "b", "holdout": "x"}], [], r"source.sets.1.holdout='x' must be a whole number"),
        (["a", {"data": "b", "cameras": ["x"]}], [], r"source.sets.1.cameras='x' must be a whole number"),
        (["a", 3], [], r"source.sets.1 is a group of keys \(data, format, .*\), found 3"),
        (["a", {"format": "names"}], [], r"^source.1.data is not set: each set of source names"),
        ({"sets": [], "data": ""}, ["method=contrast"], r"source.sets is an empty list"),
        ([], [], r"source.data is not set"),
        (SETS, ["source.2.data=c"], r"source.2.data: a list of 2 data sets; name one by its number, from 0 to 1"),
        (SETS, ["source.sets.x.data=c"], r"source.sets.x.data: a list of 2 data sets"),
        (SETS, ["source.data=c"], r"source.sets goes without source.data: each of its sets has its own \(source.0.data=…\)"),
        (SETS, ["source.format=names"], r"source.sets goes without source.format"),
        (SETS, ["source.cameras=[1]"], r"source.sets goes without source.cameras: .*; each set may choose .*source.0.cameras=…"),
        (SETS, ["source.extra=c"], r"source.sets goes without source.extra: [^;]*$"),
        ({"data": "a"}, ["source.0.data=c"], r"source.0.data: source is no list of data sets; make it one: source=\[PATH, PATH\]"),
        ({"data": "a"}, ["target.balance=true"], r"target.balance is not possible"),
    ],
)
def test_a_mistake_in_a_list_of_data_sets(source: Any, overrides: list[str], expected: str) -> None:
    with pytest.raises(UserError, match=expected) as error:
        config_from_dict({"output": "x", "source": source, "target": {"data": "t"}}, overrides, where="c.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "a folder, not a configuration file"), (b"\xff\xfe\x00", "no text in UTF-8"), (b"a: [b", "not valid YAML")],
    ids=["folder", "bytes", "YAML"],
)
def test_what_is_no_configuration_says_what_it_is(tmp_path, content: bytes | None, words: str) -> None:
    """Neither an errno nor a codec's position helps whoever named the wrong file."""
    file = tmp_path / "c.yaml"
    _ = file.mkdir() if content is None else file.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        load_config(file)
    assert not any(noise in str(error.value) for noise in ("\n", "Errno", "codec", "unicode string"))
