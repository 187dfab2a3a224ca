// A CUDA driver for tests: as much of its API as the launchers use, with host memory, and with kernels that the host's
// compiler has made. Set by the environment: FAKE_CUDA_KERNELS, the library of kernels; FAKE_CUDA_DEVICES, how many
// GPUs there are; FAKE_CUDA_MEMORY, bytes they have; FAKE_CUDA_OLD, a driver that refuses the PTX of packages; FAKE_CUDA_REPORT, a file for mistakes and leaks at the end.
#include "state.hpp"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

State &state()
{
    static State *const all = new State;
    return *all;
}

Result mistake(Result result, const std::string &what)
{
    state().mistakes.push_back(what);
    return result;
}

thread_local std::vector<Context *> stack;

Context *current() { return stack.empty() ? nullptr : stack.back(); }

namespace {

size_t setting(const char *name, size_t otherwise)
{
    const char *const text = getenv(name);
    return text ? strtoull(text, nullptr, 10) : otherwise;
}

__attribute__((destructor)) void report()
{
    const char *const path = getenv("FAKE_CUDA_REPORT");
    FILE *const file = path ? fopen(path, "w") : nullptr;
    if (file == nullptr) return;
    for (const std::string &what : state().mistakes) fprintf(file, "%s\n", what.c_str());
    // Pinned memory and what is not of one context may be left to the end of the process.
    size_t modules = 0;
    for (const Module *module : state().modules) modules += module->context != nullptr;
    const size_t left[] = {state().memory.size(), state().streams.size(), state().events.size(), modules};
    const char *const names[] = {"pieces of memory", "streams", "events", "modules"};
    for (int i = 0; i < 4; i++)
        if (left[i] > 0) fprintf(file, "%zu %s left\n", left[i], names[i]);
    fclose(file);
}

} // namespace

// For the tests: mistakes so far, one per line; what is allocated.
#define TOLD extern "C" __attribute__((visibility("default")))
TOLD const char *fake_mistakes()
{
    LOCKED;
    static std::string text;
    text.clear();
    for (const std::string &what : state().mistakes) text += what + "\n";
    return text.c_str();
}
TOLD size_t fake_memory_in_use() { return state().used; }
TOLD size_t fake_pinned_in_use()
{
    LOCKED;
    size_t sum = 0;
    for (const auto &[start, block] : state().pinned) sum += block.size;
    return sum;
}
TOLD void fake_capture(int on)
{
    LOCKED;
    state().capturing = on;
}
// Called by name for every function of the real driver that is not here.
API fake_unsupported(const char *name) { return mistake(NOT_SUPPORTED, std::string(name) + " called"); }

// Devices and contexts.

API cuInit(unsigned)
{
    LOCKED;
    const size_t devices = setting("FAKE_CUDA_DEVICES", 2);
    if (devices == 0) return NO_DEVICE;
    if (state().started) return SUCCESS;
    state().started = true;
    state().limit = setting("FAKE_CUDA_MEMORY", SIZE_MAX);
    for (size_t i = 0; i < devices; i++) state().primary.push_back({int(i)});
    return SUCCESS;
}

API cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }

API cuDeviceGetCount(int *count)
{
    if (!state().started) return NOT_INITIALIZED;
    return *count = int(state().primary.size()), SUCCESS;
}

API cuDeviceGet(int *device, int index)
{
    if (!state().started) return NOT_INITIALIZED;
    if (index < 0 || size_t(index) >= state().primary.size()) return INVALID_DEVICE;
    return *device = index, SUCCESS;
}

API cuDeviceGetName(char *name, int room, int device)
{
    snprintf(name, room, "Fake GPU %d", device);
    return SUCCESS;
}

API cuDeviceGetUuid_v2(unsigned char *bytes, int device)
{
    memset(bytes, device + 1, 16);
    return SUCCESS;
}

API cuDeviceGetPCIBusId(char *text, int room, int device)
{
    snprintf(text, room, "0000:%02x:00.0", device + 1);
    return SUCCESS;
}

API cuDeviceComputeCapability(int *major, int *minor, int) { return *major = 9, *minor = 0, SUCCESS; }

API cuDeviceGetAttribute(int *value, int attribute, int)
{
    switch (attribute) {
    case 75: return *value = 9, SUCCESS; // compute capability, major
    case 76: return *value = 0, SUCCESS;
    default: return *value = 0, SUCCESS;
    }
}

API cuDevicePrimaryCtxRetain(Context **context, int device)
{
    LOCKED;
    *context = &state().primary.at(device);
    (*context)->retained++;
    return SUCCESS;
}

API cuDevicePrimaryCtxRelease_v2(int device)
{
    LOCKED;
    Context &context = state().primary.at(device);
    if (context.retained == 0) return mistake(INVALID_CONTEXT, "a context let go too often");
    context.retained--;
    return SUCCESS;
}

API cuCtxPushCurrent_v2(Context *context)
{
    if (context->retained == 0) return mistake(INVALID_CONTEXT, "a dead context entered");
    stack.push_back(context);
    return SUCCESS;
}

API cuCtxPopCurrent_v2(Context **context)
{
    if (stack.empty()) return mistake(INVALID_CONTEXT, "no context to leave");
    if (context) *context = stack.back();
    stack.pop_back();
    return SUCCESS;
}

API cuCtxSetCurrent(Context *context)
{
    if (!stack.empty()) stack.pop_back();
    if (context) stack.push_back(context);
    return SUCCESS;
}

API cuCtxGetCurrent(Context **context) { return *context = current(), SUCCESS; }

API cuCtxGetDevice(int *device)
{
    HERE;
    return *device = here->device, SUCCESS;
}

API cuCtxGetStreamPriorityRange(int *least, int *greatest) { return *least = *greatest = 0, SUCCESS; }

// Memory.

API cuMemAlloc_v2(uint64_t *pointer, size_t size)
{
    HERE;
    NOT_CAPTURING;
    if (size == 0) return mistake(INVALID_VALUE, "an allocation of nothing");
    if (size > state().limit - state().used) return OUT_OF_MEMORY;
    void *const found = aligned_alloc(256, (size + 255) / 256 * 256);
    if (found == nullptr) return OUT_OF_MEMORY;
    memset(found, 0xff, size);
    *pointer = uint64_t(found);
    state().memory[*pointer] = {here, size};
    state().used += size;
    return SUCCESS;
}

API cuMemFree_v2(uint64_t pointer)
{
    HERE;
    NOT_CAPTURING;
    const auto found = state().memory.find(pointer);
    if (found == state().memory.end()) return mistake(INVALID_VALUE, "memory freed that is none");
    if (found->second.context != here) return mistake(INVALID_CONTEXT, "memory freed in another context");
    work_everywhere(); // as the real one waits for all
    state().used -= found->second.size;
    state().memory.erase(found);
    free(reinterpret_cast<void *>(pointer));
    return SUCCESS;
}

API cuMemHostAlloc(void **pointer, size_t size, unsigned)
{
    HERE;
    NOT_CAPTURING;
    if (size == 0) return mistake(INVALID_VALUE, "an allocation of nothing");
    if (size > state().limit) return OUT_OF_MEMORY;
    *pointer = malloc(size);
    state().pinned[uint64_t(*pointer)] = {here, size};
    return SUCCESS;
}

API cuMemFreeHost(void *pointer)
{
    HERE;
    NOT_CAPTURING;
    if (!state().pinned.erase(uint64_t(pointer))) return mistake(INVALID_VALUE, "host memory freed that is none");
    work_everywhere();
    free(pointer);
    return SUCCESS;
}
