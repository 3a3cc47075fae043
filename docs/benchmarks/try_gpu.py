import time; T0=time.time()
import sys, os
import torch, triton, triton.language as tl
import autotune
mode = sys.argv[1]
deco = triton.autotune if mode == "triton" else autotune.triton
C = triton.Config
cfgs = [C({"B": b}, num_warps=w) for b in (256, 512, 1024, 2048, 4096) for w in (2, 4, 8)]
def make():
    @deco(cfgs, key=["n"])
    @triton.jit
    def scale(x, y, n, B: tl.constexpr):
        i = tl.program_id(0) * B + tl.arange(0, B)
        v = tl.load(x + i, mask=i < n)
        tl.store(y + i, tl.exp(v) * 2, mask=i < n)
    return scale
k = make()
n = 1 << 24
x = torch.randn(n, device="cuda"); y = torch.empty_like(x)
torch.cuda.synchronize(); print("import", round(time.time()-T0, 2))
for rep in range(3):
    t = time.time(); k[lambda m: (triton.cdiv(n, m["B"]),)](x, y, n); torch.cuda.synchronize(); print("call", round(time.time()-t, 3))
    if rep == 0: print(k.best_config, k.bench_time)
assert torch.allclose(y, x.exp()*2)
for s in (20, 22, 23):
    n = 1 << s
    t = time.time(); k[lambda m: (triton.cdiv(n, m["B"]),)](x, y, n); torch.cuda.synchronize(); print("key", s, round(time.time()-t, 3))
