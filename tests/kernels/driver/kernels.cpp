// Binaries, kernels and their launches; functions and errors by name.
#include "state.hpp"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

namespace {

using Launch = const char *(*)(void *, void **, const unsigned *, unsigned, size_t, uint64_t, void **);

template <class F> F host_function(const std::string &name)
{
    static void *const library = dlopen(getenv("FAKE_CUDA_KERNELS"), RTLD_NOW | RTLD_LOCAL);
    return reinterpret_cast<F>(library ? dlsym(library, name.c_str()) : nullptr);
}

Result load(Module **module, const void *image, Context *here)
{
    NOT_CAPTURING;
    const bool fatbin = memcmp(image, "\x50\xed\x55\xba", 4) == 0, cubin = memcmp(image, "\x7f" "ELF", 4) == 0;
    if (!fatbin && !cubin) return mistake(INVALID_IMAGE, "a binary that is none");
    if (fatbin && getenv("FAKE_CUDA_OLD")) return UNSUPPORTED_PTX; // as where it has no machine code for the GPU
    state().modules.insert(*module = new Module{here, {}});
    return SUCCESS;
}

Result unload(Module *module)
{
    NOT_CAPTURING;
    if (!state().modules.erase(module)) return mistake(INVALID_HANDLE, "no module unloaded");
    work_everywhere();
    delete module;
    return SUCCESS;
}

Result find(Kernel **kernel, Module *module, const char *name)
{
    NOT_CAPTURING;
    if (!state().modules.count(module)) return mistake(INVALID_HANDLE, "a kernel of no module");
    void *const call = host_function<void *>(std::string("call_") + name);
    if (call == nullptr) return NOT_FOUND;
    const auto types = host_function<const char *(*)()>(std::string("types_") + name);
    *kernel = &(module->kernels[name] = {name, types(), call});
    return SUCCESS;
}

bool is_kernel(const Kernel *kernel, const Context *here)
{
    for (const Module *module : state().modules) {
        if (module->context != nullptr && module->context != here) continue;
        for (const auto &[name, one] : module->kernels)
            if (&one == kernel) return true;
    }
    return false;
}

size_t size_of(char type) { return type == 'p' || type == 'd' ? 8 : 4; }

// A copy of the arguments: they come one by one, or packed as in a C struct. Empty where they do not fit.
std::vector<uint64_t> gathered(const std::string &types, void **each, void **packed)
{
    std::vector<uint64_t> values(types.size());
    size_t at = 0;
    for (size_t i = 0; i < types.size(); i++) {
        const size_t size = size_of(types[i]);
        at = (at + size - 1) / size * size;
        memcpy(&values[i], each ? each[i] : static_cast<char *>(packed[1]) + at, size);
        at += size;
    }
    if (!each && *static_cast<size_t *>(packed[3]) != at) values.clear();
    return values;
}

void run(const Kernel &kernel, std::vector<uint64_t> values, const unsigned *grid, unsigned block, Stream *stream)
{
    static uint64_t seed = 0;
    std::vector<void *> pointers;
    for (uint64_t &value : values) pointers.push_back(&value);
    void *address = nullptr;
    const auto launch = host_function<Launch>("shim_launch");
    if (launch(kernel.call, pointers.data(), grid, block, 0, ++seed, &address)) stream->failure = ILLEGAL_ADDRESS;
}

// As CUlaunchConfig.
struct Config {
    unsigned grid[3], block[3], shared;
    Stream *stream;
    void *attributes;
    unsigned count;
};

Result start(Kernel *kernel, const Config &config, void **each, void **packed, Context *here)
{
    if (!is_kernel(kernel, here)) return mistake(INVALID_HANDLE, "no kernel launched");
    if (!known(state().streams, config.stream, here)) return mistake(INVALID_HANDLE, kernel->name + " on no stream");
    const unsigned most[] = {2147483647, 65535, 65535};
    for (int i = 0; i < 3; i++)
        if (config.grid[i] < 1 || config.grid[i] > most[i]) return INVALID_VALUE;
    if (config.block[0] < 1 || config.block[0] > 1024 || config.block[1] != 1 || config.block[2] != 1)
        return INVALID_VALUE;
    const std::vector<uint64_t> values = gathered(kernel->types, each, packed);
    if (values.empty()) return mistake(INVALID_VALUE, kernel->name + " with other arguments than it takes");
    config.stream->queue.push_back(
        [kernel = *kernel, config, values] { run(kernel, values, config.grid, config.block[0], config.stream); });
    return SUCCESS;
}

} // namespace

API cuModuleLoadData(Module **module, const void *image)
{
    HERE;
    return load(module, image, here);
}

API cuModuleLoadDataEx(Module **module, const void *image, unsigned, int *, void **)
{
    return cuModuleLoadData(module, image);
}

API cuLibraryLoadData(Module **module, const void *image, int *, void **, unsigned, int *, void **, unsigned)
{
    LOCKED;
    return load(module, image, nullptr);
}

API cuModuleUnload(Module *module)
{
    HERE;
    if (!known(state().modules, module, here)) return mistake(INVALID_CONTEXT, "unloaded in another context");
    return unload(module);
}

API cuLibraryUnload(Module *module)
{
    LOCKED;
    return unload(module);
}

API cuModuleGetFunction(Kernel **kernel, Module *module, const char *name)
{
    HERE;
    return find(kernel, module, name);
}

API cuLibraryGetKernel(Kernel **kernel, Module *module, const char *name)
{
    LOCKED;
    return find(kernel, module, name);
}

// Before each launch by PyCUDA, and of no effect on it.
API cuFuncSetBlockShape(Kernel *kernel, int, int, int)
{
    HERE;
    return is_kernel(kernel, here) ? SUCCESS : mistake(INVALID_HANDLE, "a block for no kernel");
}

API cuLaunchKernel(
    Kernel *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
    Stream *stream, void **each, void **packed)
{
    HERE;
    return start(kernel, {{gx, gy, gz}, {bx, by, bz}, shared, stream, nullptr, 0}, each, packed, here);
}

API cuLaunchKernelEx(const Config *config, Kernel *kernel, void **each, void **packed)
{
    HERE;
    return start(kernel, *config, each, packed, here);
}

API cuGetErrorName(Result result, const char **text)
{
    static const std::map<int, const char *> names = {
        {SUCCESS, "CUDA_SUCCESS"}, {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
        {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"}, {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
        {NO_DEVICE, "CUDA_ERROR_NO_DEVICE"}, {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
        {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE"}, {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
        {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"}, {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
        {UNSUPPORTED_PTX, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"},
        {NOT_READY, "CUDA_ERROR_NOT_READY"}, {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"},
        {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED"},
        {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"}};
    const auto found = names.find(result);
    *text = found == names.end() ? nullptr : found->second;
    return found == names.end() ? INVALID_VALUE : SUCCESS;
}

API cuGetErrorString(Result result, const char **text)
{
    static const std::map<int, const char *> texts = {
        {UNSUPPORTED_PTX, "the provided PTX was compiled with an unsupported toolchain."},
        {OUT_OF_MEMORY, "out of memory"}, {NO_DEVICE, "no CUDA-capable device is detected"},
        {ILLEGAL_ADDRESS, "an illegal memory access was encountered"}};
    const auto found = texts.find(result);
    return found == texts.end() ? cuGetErrorName(result, text) : (*text = found->second, SUCCESS);
}

// What is not here is not found; cuda-bindings then refuses it when it is called.
API cuGetProcAddress_v2(const char *name, void **function, int, uint64_t, int *found)
{
    static void *const self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    for (const char *version : {"_v2", ""}) {
        *function = dlsym(self, (std::string(name) + version).c_str());
        if (*function != nullptr) break;
    }
    if (found) *found = *function ? 0 : 1;
    return *function ? SUCCESS : NOT_FOUND;
}
