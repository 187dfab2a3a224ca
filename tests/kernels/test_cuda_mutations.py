"""The checks of the kernels, checked: a kernel with a bug must not pass."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from fusioncam.kernels.specs import SPECS

DIFFERS, RACE, DIVERGES = "differs from the reference", "race in", "divergent barrier"
FAULT, MISALIGNED = "Segmentation fault", "undefined behaviour"


@dataclass(frozen=True)
class Mutation:
    """A bug, the kernel that shows it, and how it is found."""

    name: str
    old: str
    new: str
    kernel: str
    found: str
    file: str


SYNC = "__syncthreads();"
BUGS = {
    "arithmetic.cuh": [
        ("tap past the map", "low + 1 < small", "low + 1 <= small", "expand_maps", FAULT),
        ("aligned corners", "(2 * i + 1) * small - large", "2 * i * small", "expand_maps", DIFFERS),
        ("order of negatives", "? ~bits :", "? bits :", "denoise_maps", DIFFERS),
        ("never constant", "<= 1e-6 *", "<= 1e-9 *", "normalize_maps", DIFFERS),
        ("NaN is no gain", "magnitude(total) < 1e-6", "!(magnitude(total) >= 1e-6)", "unite_maps", DIFFERS),
        ("no clamp", "difference < 1 ? 1 - difference : 0", "1 - difference", "blend_maps", DIFFERS),
        ("half rounded down", "return bits;", "return bits & 0xfffe;", "mask_pictures_half", DIFFERS),
    ],
    "block.cuh": [
        ("join before all came", f"= mine;\n    {SYNC}", "= mine;", "row_means", RACE),
        ("join too soon", f"+ half]);\n        {SYNC}", "+ half]);", "score_weights", RACE),
        ("room used too soon", f"{SYNC} // or", "// or", "read_classes", RACE),
        ("barrier for some", f"{SYNC} // or", f"if (threadIdx.x % 2) {SYNC} // or", "row_means", DIVERGES),
        ("barriers for all", f"{SYNC} // or", f"if (threadIdx.x % 2) {SYNC}\n    else\n    {SYNC} // or", "row_means",
         DIVERGES),
    ],
    "masks.cu": [
        ("row too many", "if (y >= H) return;", "if (y > H) return;", "mask_pictures_float", RACE),
        ("column too many", "j * STEP < W", "j * STEP <= W", "mask_pictures_half", RACE),
        ("left of the map", "max(low, 0)", "low", "mask_pictures_float", DIFFERS),
        ("right of the map", "min(low + 1, w - 1)", "low + 1", "mask_pictures_half", DIFFERS),
        ("planes swapped", "out + (size_t(b) * 3 + c)", "out + (size_t(b) * 3 + 2 - c)", "mask_pictures_half", DIFFERS),
        ("image taken for aligned", "&& aligned(image)", "", "mask_pictures_half", MISALIGNED),
        ("out taken for aligned", "&& aligned(out)", "", "mask_pictures_float", MISALIGNED),
        ("input written", "*map = scaled +", "*map = &(*const_cast<float *>(scaled) = 0) +", "expand_maps", FAULT),
        ("kinds swapped", "LIVE, ZERO, CONSTANT,", "LIVE, CONSTANT, ZERO,", "normalize_maps", DIFFERS),
        ("pixel too many", "first + i < P", "first + i <= P", "expand_maps", RACE),
        ("never one by one", "P % 4 == 0 && aligned(out)", "aligned(out)", "expand_maps", RACE),
    ],
    "reduce.cu": [
        ("sums not awaited", f"= sum;\n    {SYNC}", "= sum;", "weighted_sums", RACE),
        ("threads that leave", f"= sum;\n    {SYNC}", f"= sum;\n    if (part > 0) return;\n    {SYNC}", "weighted_sums",
         DIVERGES),
        ("past the sums", "part > 0 || p >= P", "part > 0", "weighted_sums", FAULT),
        ("count too many", "i < count", "i <= count", "row_means", FAULT),
        ("blanks gathered", "if (channel < 0)", "if (channel < -1)", "gather_scores", FAULT),
        ("values squashed", "ending == VALUE ? score :", "", "read_classes", DIFFERS),
        ("endings swapped", "SOFTMAX, SIGMOID, VALUE", "SIGMOID, SOFTMAX, VALUE", "read_classes", DIFFERS),
        ("sign of the sigmoid", "score < 0 ? small", "score > 0 ? small", "read_classes", DIFFERS),
        ("row too many", "n < N", "n <= N", "gather_scores", FAULT),
        ("infinity trusted", "sum += row[c] * 0;", "sum += 0;", "gather_scores", DIFFERS),
        ("infinity hidden", "sum += sum * 0;", "", "weighted_sums", DIFFERS),
        ("zeros weighted", "kinds[k] == ZERO ? 0 :", "", "score_weights", DIFFERS),
    ],
    "fuse.cu": [
        ("zeroing not awaited", f"COPIES] = 0;\n        {SYNC}", "COPIES] = 0;", "denoise_maps", RACE),
        ("counts not awaited", f"{SYNC}\n        if (threadIdx.x < BINS) {{ //", "if (threadIdx.x < BINS) { //",
         "denoise_maps", RACE),
        ("sums not awaited", f"= sum;\n        }}\n        {SYNC}", "= sum;\n        }", "denoise_maps", RACE),
        ("bin not awaited", f"{SYNC}\n        prefix |=", "prefix |=", "denoise_maps", RACE),
        ("count not atomic", "atomicAdd(&counts[key >> shift & 255][threadIdx.x % COPIES], 1)",
         "counts[key >> shift & 255][threadIdx.x % COPIES]++", "denoise_maps", RACE),
        ("rank of a tie", "up_to > rank + 1", "up_to > rank", "denoise_maps", DIFFERS),
        ("threshold left out", "value < threshold", "value <= threshold", "denoise_maps", DIFFERS),
        ("NaN below", "value < threshold ? 0 : value", "value >= threshold ? value : 0", "denoise_maps", DIFFERS),
        ("some left over", "P % 4 == 0 && aligned(maps)", "aligned(maps)", "denoise_maps", RACE),
        ("maps taken for aligned", "&& aligned(united) && aligned(region)", "", "blend_maps", MISALIGNED),
        ("first share given on", "= shares.second;", "= shares.first;", "unite_maps", DIFFERS),
        ("map 0 again", "    united += size_t(n) * P;\n", "", "blend_maps", DIFFERS),
    ],
    "overlay.cu": [
        ("cut, not rounded", "return rintf(value);", "return int(value);", "overlay_map", DIFFERS),
        ("more than opaque", "2.5f * value < 1 ? 2.5f * value : 1", "2.5f * value", "overlay_map", DIFFERS),
    ],
}  # fmt: skip
MUTATIONS = [Mutation(*facts, file=file) for file, bugs in BUGS.items() for facts in bugs]


@pytest.fixture(scope="module")
def libraries(shim, compiler, tmp_path_factory):
    """The compiled mutants by name, two at a time in the making."""
    folder = tmp_path_factory.mktemp("mutants")

    def compiled(number, mutation):
        source = shutil.copytree(shim.CUDA, folder / str(number))
        file = source / mutation.file
        file.write_text(file.read_text().replace(mutation.old, mutation.new))
        return compiler.library(f"mutant{number}", source, (*shim.STRICT, *shim.RACES), only=mutation.kernel)

    with ThreadPoolExecutor(2) as pool:
        yield {m: pool.submit(compiled, i, m) for i, m in enumerate(MUTATIONS)}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.file}-{m.name}")
def test_a_bug_is_found(shim, libraries, checks, mutation):
    assert mutation.old in (shim.CUDA / mutation.file).read_text(), "the mutation does not apply any more"
    device = shim.HostDevice(libraries[mutation].result())
    with pytest.raises(AssertionError, match=f"^{mutation.kernel}: .*{mutation.found}"):
        checks.check_all(device, SPECS[mutation.kernel], seed=0)


def test_every_kernel_and_every_file_has_a_bug(shim):
    assert {m.kernel for m in MUTATIONS} == set(SPECS)
    assert set(BUGS) == {path.name for path in shim.CUDA.iterdir()} - {"fusioncam.cu"}
