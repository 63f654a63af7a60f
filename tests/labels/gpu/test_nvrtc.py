"""The kernels compile for GPUs, and no product is fused with a sum: NVRTC needs no GPU."""

import re

import pytest

from distreid.retrieval.gpu.launch import OPTIONS, SOURCE, signatures

nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="no NVRTC: torch's CUDA builds bring it")


def _room(size: int) -> bytes:
    """Bytes that NVRTC writes to. Never fewer than two: Python keeps one object for each single byte, and an empty log is one NUL,
    which would turn every b" " of the process into b"\\0", and each 32 that is unpickled into 0."""
    return bytes(size + 1)


def checked(result):
    assert result[0] == nvrtc.nvrtcResult.NVRTC_SUCCESS, result[0]
    return result[1] if len(result) == 2 else result[1:]


def compiled(real: str, architecture: str) -> tuple[int, str]:
    """(bytes of machine code, PTX). AssertionError with the compiler's log where it fails."""
    code = f"#define REAL {real}\n{SOURCE.read_text(encoding='utf-8')}"
    program = checked(nvrtc.nvrtcCreateProgram(code.encode(), b"kernels.cu", 0, [], []))
    options = [f"--gpu-architecture={architecture}".encode(), *(option.encode() for option in OPTIONS)]
    status = nvrtc.nvrtcCompileProgram(program, len(options), options)[0]
    log = _room(checked(nvrtc.nvrtcGetProgramLogSize(program)))
    nvrtc.nvrtcGetProgramLog(program, log)
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()
    assert b"warning" not in log, log.decode()
    ptx = _room(checked(nvrtc.nvrtcGetPTXSize(program)))
    nvrtc.nvrtcGetPTX(program, ptx)
    return checked(nvrtc.nvrtcGetCUBINSize(program)), ptx.decode()


@pytest.fixture(scope="module", autouse=True)
def needs_the_library() -> None:
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:  # the bindings are there, the library is not
        pytest.skip(f"no NVRTC: {error}")


@pytest.mark.parametrize("real", ["float", "double"])
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100", "sm_120"])
def test_compiles(architecture: str, real: str) -> None:
    size, ptx = compiled(real, architecture)
    assert size > 1000
    assert set(re.findall(r"\.visible \.entry (\w+)", ptx)) == set(signatures(real))
    for body in re.split(r"\.visible \.entry ", ptx)[1:]:
        name = body.split("(")[0]
        # Divisions are made of fused operations of their own; whatever has none must fuse nothing.
        if "div.rn.f64" not in body:
            assert "fma.rn.f64" not in body, name


def test_the_compiler_writes_to_no_object_that_others_share() -> None:
    compiled("float", "sm_80")
    assert b"a b"[1:2][0] == 32, "NVRTC wrote its empty log into Python's one b' '"
