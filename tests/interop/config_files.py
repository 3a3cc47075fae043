"""Tuned configs as other libraries write them, for the tests that read them."""

import json

from autotune import Integer, PowerOfTwo, Space

SPACE = Space(
    {
        "BLOCK_M": PowerOfTwo(16, 128),
        "BLOCK_N": PowerOfTwo(16, 128),
        "num_warps": PowerOfTwo(1, 8),
        "num_stages": Integer(1, 4),
    },
    ["BLOCK_M * BLOCK_N <= 8192"],
    default={"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 2},
)


def moe(m, n, warps=4, **more):
    return {"BLOCK_SIZE_M": m, "BLOCK_SIZE_N": n, "num_warps": warps, "num_stages": 3, **more}


MOE = {"1": moe(16, 32), "64": moe(32, 64, 8), "4096": moe(128, 64, 8)}

MOE_NAME = "E=6,N=700,device_name=GPU_X-80GB,dtype=fp8,block_shape=[128, 64].json"


def triton_config(m, n, warps=4, stages=3):
    kwargs = {"BLOCK_M": m, "BLOCK_N": n}
    return {
        "kwargs": kwargs,
        "num_warps": warps,
        "num_stages": stages,
        "num_ctas": 1,
        "maxnreg": None,
        "pre_hook": None,
    }


FLA = {
    "kernel_name": "scan_kernel",
    "triton_version": "3.6.0",
    "default_config": triton_config(16, 16, 2),
    "autotune_entries": {
        "0a": {
            "autotune_key": [128, True, "torch.float16"],
            "config": triton_config(32, 64),
            "best_timing": [0.5, 0.4],
        },
        "0b": {"autotune_key": [256, True, "torch.float16"], "config": triton_config(64, 64, 8)},
    },
}

TRITON = {
    "key": [512, "torch.float32"],
    "timestamp": 1.5,
    "configs_timings": [
        [triton_config(16, 16), [0.9, 0.8, 1.0]],
        [triton_config(32, 16), float("inf")],
        [triton_config(64, 16), 0.3],
    ],
}

FLASHINFER = {
    "_metadata": {"flashinfer_version": "0.9", "gpu": "GPU X"},
    "('gemm', 'OneRunner', ((4, 512), (512, 64)))": ["OneRunner", 3],
    "('lib::moe', 'TwoRunner', ((1, 512), (0,)))": ["TwoRunner", [8, 34]],
}

LORA = {
    "2": {
        "1": {
            "16": {"512": {"64": {"BLOCK_M": 16, "NUM_WARPS": 4}}},
            "32": {"512": {"64": {"BLOCK_M": 32, "NUM_WARPS": 8}}},
        }
    }
}

NESTED = {"8-512-half": {"1": {"BLOCK_M": 16, "NUM_STAGE": 1}, "2": {"BLOCK_M": 32, "NUM_STAGE": 1}}}

FILES = {"vllm": MOE, "flash-linear-attention": FLA, "flashinfer": FLASHINFER, "triton": TRITON}


def file(tmp_path, content, name="file.json"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path
