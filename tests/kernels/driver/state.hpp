// What the driver that is none knows: contexts, memory, and the work each stream has still to do.
//
// Work begins no earlier than somebody waits for it: what is read too soon is stale, every time. Whatever a real driver
// would let pass or punish by chance (a handle that is gone, another device's memory, the default stream) is written
// down in `mistakes`.
#pragma once

#include <stdint.h>

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    UNSUPPORTED_PTX = 222,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
};

struct Context {
    int device, retained = 0;
};

struct Stream;

// One cuEventRecord; the event may be recorded anew while something still waits for this one.
struct Happening {
    Stream *stream;
    bool done = false;
    std::chrono::steady_clock::time_point when;
};

struct Stream {
    Context *context;
    std::deque<std::function<void()>> queue;
    Result failure = SUCCESS; // of work that ran; stays, as on a GPU
};

struct Event {
    Context *context;
    bool timing, blocking;
    std::shared_ptr<Happening> last;
};

struct Kernel {
    std::string name, types; // a letter per parameter: p i f d
    void *call;
};

struct Module {
    Context *context; // null for a library, which is good in all of them
    std::map<std::string, Kernel> kernels;
};

struct Block {
    Context *context;
    size_t size;
};

struct State {
    std::recursive_mutex lock;
    bool started = false;
    bool capturing = false; // a graph, somewhere in the process, in CUDA's global mode
    std::vector<Context> primary;
    std::map<uint64_t, Block> memory, pinned;
    std::set<Stream *> streams;
    std::set<Event *> events;
    std::set<Module *> modules;
    std::vector<std::string> mistakes;
    size_t limit = SIZE_MAX, used = 0; // bytes of device memory
};

State &state(); // lives as long as the process

Result mistake(Result result, const std::string &what);

Context *current(); // of this thread, or null

#define API extern "C" __attribute__((visibility("default"))) Result
#define LOCKED const std::lock_guard<std::recursive_mutex> locked(state().lock)
#define HERE                                                                                                           \
    LOCKED;                                                                                                            \
    Context *const here = current();                                                                                   \
    if (here == nullptr) return mistake(INVALID_CONTEXT, std::string(__func__) + " without a context")

// In a call that a capture anywhere in the process forbids.
#define NOT_CAPTURING                                                                                                  \
    if (state().capturing) return mistake(CAPTURE_UNSUPPORTED, std::string(__func__) + " during a capture")

// Whether a handle is alive and of the context that is current.
template <class T> bool known(const std::set<T *> &all, T *one, Context *here)
{
    return all.count(one) && one->context == here;
}

// Does what is queued, up to `happening` if there is one.
inline void work(Stream *stream, const Happening *happening = nullptr)
{
    while (!stream->queue.empty() && !(happening && happening->done)) {
        const auto next = std::move(stream->queue.front());
        stream->queue.pop_front();
        next();
    }
}

inline void work_everywhere()
{
    for (Stream *stream : state().streams) work(stream);
}

inline const Block *block_of(const std::map<uint64_t, Block> &blocks, uint64_t pointer, size_t size)
{
    auto next = blocks.upper_bound(pointer);
    if (next == blocks.begin()) return nullptr;
    const auto &[start, block] = *--next;
    return pointer + size <= start + block.size ? &block : nullptr;
}
