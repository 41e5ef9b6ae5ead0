"""Execution profiles: their files, and what a server makes of them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import onnx
import pytest
import tritonclient.http
import yaml
from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from lipsync_embedded import EmbeddedServerError, Server, ServerStartError
from lipsync_embedded._profiles import loaded_models
from lipsync_preprocessing.avatar import add_avatar, prune_versions, update_generator
from lipsync_preprocessing.profiles.files import write_profile
from lipsync_preprocessing.profiles.settings import (
    GPU_PROFILES,
    PROFILES,
    UNMEASURED,
    ProfileSettings,
)
from lipsync_preprocessing.repository import Repository
from support.left_out import HARDWARE
from support.profile_commands import (
    HAS_GPU,
    SERVER,
    config,
    done,
    encoder_of,
    parameter,
    profile_files,
    run,
)

ROOT = Path(__file__).parents[2]


GPU = ModelInstanceGroup.KIND_GPU


CPU = ModelInstanceGroup.KIND_CPU


@pytest.mark.parametrize("profile", GPU_PROFILES)
def test_gpu_profiles_differ_only_as_they_say(anna: Path, profile: str) -> None:
    before = {p: p.read_bytes() for p in anna.glob("*/config.pbtxt")}
    output = done(anna, "tune", "anna", "--profile", profile, "--gpu-memory-mb", "8192")
    assert {p: p.read_bytes() for p in anna.glob("*/config.pbtxt")} == before
    encoder = encoder_of(anna)
    files = profile_files(anna)
    assert set(files) == {"anna_generator", encoder, "anna_compositor"}
    assert output.endswith(f"lipsync-server --profile {profile}\n")
    cuda = {"cudnn_conv_algo_search", "gpu_mem_limit", "arena_extend_strategy"}
    for model, path in files.items():
        usual, tuned = config(anna / model / "config.pbtxt"), config(path)
        changed = ["instance_group"]
        if model != "anna_compositor":
            # Stock Triton 24.10 reads numbers, and not those under gpu_execution_accelerator.
            assert parameter(tuned, "cudnn_conv_algo_search") == "1"
            assert parameter(tuned, "arena_extend_strategy") == "1"
            limit = 8192 if model == "anna_generator" else 1024
            assert int(parameter(tuned, "gpu_mem_limit")) == limit << 20
            assert [(g.kind, g.count) for g in tuned.instance_group] == [(GPU, 1)]
            changed += ["model_warmup", *(["optimization"] if profile != "cuda" else [])]
        else:
            assert [(g.kind, g.count) for g in tuned.instance_group] == [(CPU, 4)]
        head = [line for line in path.read_text().splitlines() if line.startswith("#")]
        for field in changed:
            assert tuned.HasField(field) if field == "optimization" else getattr(tuned, field)
            assert any(line.startswith(f"#   {field}") for line in head), field
            tuned.ClearField(field)
            usual.ClearField(field)
        for name in cuda if model != "anna_compositor" else ():
            del tuned.parameters[name]
            assert any(line.startswith(f"#   parameters: {name}") for line in head)
        assert tuned == usual
        assert f"# {UNMEASURED}" in head or model == encoder


def test_every_batch_size_is_warm_before_the_model_is_ready(anna: Path) -> None:
    done(anna, "tune", "anna", "--profile", "cuda")
    files = profile_files(anna)
    for model, extra in (("anna_generator", 0), (encoder_of(anna), 15)):
        samples = config(files[model]).model_warmup
        assert [s.batch_size for s in samples] == [n + extra for n in (1, 2, 4, 8, 16, 32)]
        for sample in samples:
            for port in config(files[model]).input:
                came = sample.inputs[port.name]
                assert (came.data_type, list(came.dims)) == (port.data_type, list(port.dims))


def test_tensorrt_has_shapes_for_every_tensor_that_may_enter_it(anna: Path) -> None:
    """By ONNX's own shape inference: a name or a shape that is not so would fail on a GPU."""
    done(anna, "tune", "anna", "--profile", "tensorrt-fp16", "--engine-cache", "/cache")
    generator = onnx.shape_inference.infer_shapes(
        onnx.load(str(anna / "anna_generator/1/model.onnx"))
    )
    encoder = onnx.load(str(anna / encoder_of(anna) / "1/model.onnx"))
    files = profile_files(anna)
    for graph, model in ((generator.graph, "anna_generator"), (encoder.graph, encoder_of(anna))):
        tuned = config(files[model])
        (accelerator,) = tuned.optimization.execution_accelerators.gpu_execution_accelerator
        options = dict(accelerator.parameters)
        assert accelerator.name == "tensorrt"
        assert options["precision_mode"] == "FP16"
        for cache in ("engine", "timing"):
            assert options[f"trt_{cache}_cache_enable"] == "1"
            assert options[f"trt_{cache}_cache_path"] == "/cache"
        known = {v.name: v for v in [*graph.input, *graph.value_info]}
        most = tuned.max_batch_size
        for which, batch in (("min", 1), ("opt", most // 2), ("max", most)):
            entries = options[f"trt_profile_{which}_shapes"].split(",")
            shapes = dict(entry.split(":") for entry in entries)
            assert {port.name for port in graph.input} <= set(shapes)
            for name, text in shapes.items():
                dims = [d.dim_value for d in known[name].type.tensor_type.shape.dim]
                assert dims[0] == 0  # symbolic
                assert [int(n) for n in text.split("x")] == [batch, *dims[1:]], name


def test_profiles_live_with_their_avatar(
    anna: Path,
    raw_dataset: Path,
    generator_file: Path,
    other_generator_file: Path,
    encoder_file: Path,
) -> None:
    add_avatar(anna, "berta", raw_dataset, generator_file, encoder_file)
    encoder = encoder_of(anna)
    assert encoder_of(anna, "berta") == encoder
    for name in ("anna", "berta"):
        done(anna, "tune", name, "--profile", "cuda")
    done(anna, "tune", "anna", "--profile", "tensorrt-fp16")
    assert "profiles cuda, tensorrt-fp16" in done(anna, "list")
    text = (anna / "anna_generator/configs/cuda.pbtxt").read_bytes()
    update_generator(anna, "anna", other_generator_file)
    prune_versions(anna, "anna")
    assert (anna / "anna_generator/configs/cuda.pbtxt").read_bytes() == text
    # A new avatar has none, because nothing was measured for it.
    add_avatar(anna, "carla", raw_dataset, generator_file, encoder_file)
    assert Repository(anna).avatar("carla").profiles == ()
    # The encoder is theirs together.
    done(anna, "tune", "anna", "--profile", "cuda", "--remove")
    assert (anna / encoder / "configs/cuda.pbtxt").exists()
    assert Repository(anna).avatar("anna").profiles == ("tensorrt-fp16",)
    done(anna, "remove", "berta")
    assert not (anna / encoder / "configs/cuda.pbtxt").exists()
    output = done(anna, "tune", "anna", "--profile", "tensorrt-fp16", "--remove")
    assert f"{encoder}/configs/tensorrt-fp16.pbtxt" in output
    assert profile_files(anna) == {}
    assert not (anna / "anna_generator/configs").exists()


def test_a_profile_of_another_config_is_told(anna: Path, tmp_path: Path) -> None:
    done(anna, "tune", "anna", "--profile", "cuda")
    assert done(anna, "inspect", "anna", "-o", tmp_path / "a.png").endswith("\nprofile cuda\n")
    with (anna / "anna_generator/config.pbtxt").open("a") as file:
        file.write("# another\n")
    output = done(anna, "inspect", "anna", "-o", tmp_path / "b.png")
    assert "profile cuda  made from another config.pbtxt: tune again" in output


def test_wrong_usage_and_failures(anna: Path) -> None:
    for arguments in (
        ("--profile", "fast"),
        (),
        ("--profile", "auto", "--remove"),
        ("--profile", "onnxruntime", "--visual-cache-mb", "5"),
        ("--profile", "cuda", "--engine-cache", "/x"),
        ("--profile", "openvino-f32", "--compositors", "3"),
    ):
        assert run(anna, "tune", "anna", *arguments).exit_code == 2, arguments
    for arguments, message in (
        (("anna", "--profile", "cuda", "--remove"), "anna: no profile 'cuda'; it has: none"),
        (("nobody", "--profile", "cuda"), "no avatar 'nobody'"),
        (("demo", "--profile", "onnxruntime"), "nothing to load in demo_generator"),
    ):
        result = run(anna, "tune", *arguments)
        assert result.exit_code == 1, result.output
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 2  # where the repository is, and the error
    assert profile_files(anna) == {}


def test_a_server_runs_the_profile(anna: Path, server: Server) -> None:
    """And the session's server, which has no profile, runs the usual config."""
    write_profile(anna, "anna", "onnxruntime", ProfileSettings(threads=2, compositors=2))

    def compositors(one: Server, model: str) -> int:
        client = tritonclient.http.InferenceServerClient(one.http_url.split("//")[1])
        (group,) = client.get_model_config(model)["instance_group"]
        client.close()
        return int(group["count"])

    models = ["anna_generator", "anna_compositor"]
    with Server(anna, models=models, profile="onnxruntime") as tuned:
        assert compositors(tuned, "anna_compositor") == 2
        engine = tuned.engines()["anna_generator"]
    assert re.fullmatch(r"ONNX Runtime [\d.]+, CPUExecutionProvider, \d+ x 2 threads", engine)
    assert compositors(server, "toy_compositor") == 1
    assert server.engines()["toy_generator"].endswith(" x 1 threads")


@pytest.mark.server
@pytest.mark.skipif(HAS_GPU, reason=HARDWARE + "this machine has a GPU")
def test_a_gpu_profile_without_a_gpu_is_refused(anna: Path) -> None:
    done(anna, "tune", "anna", "--profile", "cuda")
    with (
        pytest.raises(ServerStartError, match="its configs want a GPU, and this machine has none"),
        Server(anna, models=["anna_generator"], profile="cuda"),
    ):
        pass


def test_a_profile_that_no_loaded_model_has(anna: Path) -> None:
    done(anna, "tune", "anna", "--profile", "cuda")
    command = [SERVER, "--repository", str(anna), "--profile", "openvino-f32"]
    failed = subprocess.run([*command, "--model", "anna"], capture_output=True, text=True)
    assert failed.returncode == 1
    assert "no model has the profile 'openvino-f32'; there is: cuda (" in failed.stderr
    assert "anna_generator" in failed.stderr
    with (
        pytest.raises(EmbeddedServerError, match="there is: none"),
        Server(anna, models=["audio_window"], profile="cuda"),
    ):
        pass


def test_what_an_avatar_loads_is_read_as_triton_reads_it(anna: Path) -> None:
    steps = config(anna / "anna/config.pbtxt").ensemble_scheduling.step
    assert loaded_models(anna, ["anna"]) == sorted({"anna", *(s.model_name for s in steps)})
    assert len(steps) > 5
    assert set(loaded_models(anna, None)) == {p.parent.name for p in anna.glob("*/config.pbtxt")}


def test_the_deployments_ask_for_profiles_there_are() -> None:
    """Triton loads the usual config, without an error, for a name that no profile has."""
    compose = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
    overlay = (ROOT / "docker/k8s/overlays/gpu/kustomization.yaml").read_text()
    patch = yaml.safe_load(yaml.safe_load(overlay)["patches"][0]["patch"])
    (container,) = patch["spec"]["template"]["spec"]["containers"]
    (compose_argument,) = compose["services"]["triton"]["command"]
    name = re.fullmatch(r"--model-config-name=\$\{LIPSYNC_PROFILE:-(.+)\}", compose_argument)
    assert name is not None
    assert name[1] in PROFILES
    (argument,) = container["args"]
    assert argument.removeprefix("--model-config-name=") in PROFILES
