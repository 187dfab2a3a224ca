// Finds races: two threads at one element, one of them to write it, with no barrier between them. Kernels compiled with
// -fsanitize=thread call the functions at the end at every access; the sanitizer's own library is left out.
#include "shim.hpp"

#include <deque>
#include <vector>

namespace {

constexpr unsigned ATOMIC = 0xffff, MANY = 0xfffe; // beside the numbers of threads

// By whom an element was last read or written, and when: intervals lie between barriers and are counted over all
// blocks of a launch, from 1.
struct Access {
    uint32_t interval;
    uint32_t thread;
};
struct Element {
    Access read, written;
};
struct Watched {
    const char *start;
    size_t bytes, size; // of all, and of an element
    std::vector<Element> elements;
};
std::deque<Watched> watched; // the first is the shared memory
uint32_t interval, block_began;

void watch(const char *start, size_t bytes, size_t size)
{
    watched.push_back({start, bytes, size, std::vector<Element>(bytes / size)});
}

// Barriers order what a block does; nothing orders blocks, but each has shared memory of its own.
bool clash(Access before, unsigned thread, bool shared)
{
    if (before.interval == 0 || before.interval < block_began) return before.interval && !shared;
    return before.interval == interval && before.thread != thread;
}

void note(Element &element, const void *address, unsigned thread, bool write, bool shared)
{
    const bool other = clash(element.written, thread, shared);
    if (other || (write && clash(element.read, thread, shared)))
        shim_fail(
            address, "race in %s memory: %s what another thread has %s", shared ? "shared" : "global",
            write ? "writes" : "reads", other ? "written" : "read");
    Access &last = write ? element.written : element.read;
    last = {interval, last.interval == interval && last.thread != thread ? MANY : thread};
}

void note(const void *address, size_t bytes, bool write, unsigned thread)
{
    for (Watched &some : watched) {
        const size_t offset = size_t(static_cast<const char *>(address) - some.start);
        if (offset >= some.bytes) continue;
        for (size_t i = offset / some.size; i * some.size < offset + bytes && i < some.elements.size(); i++)
            note(some.elements[i], address, thread, write, &some == &watched.front());
    }
}

} // namespace

void races_in_new_launch()
{
    if (watched.empty()) watch(__start_block_shared, size_t(__stop_block_shared - __start_block_shared), 4);
    for (Watched &some : watched) some.elements.assign(some.elements.size(), {});
    interval = 0;
}
void races_in_new_block() { block_began = interval + 1; }
void races_after_barrier() { interval++; }
void races_at_atomic(const void *address) { note(address, sizeof(int), true, ATOMIC); }

// Watch an array in global memory that kernels write, too; with null, none any more.
extern "C" void shim_watch(const char *start, size_t bytes, size_t size)
{
    races_in_new_launch();
    if (start == nullptr) watched.resize(1);
    else watch(start, bytes, size);
}

#define ACCESSES(BYTES)                                                                                                \
    extern "C" void __tsan_read##BYTES(void *address) { note(address, BYTES, false, shim_thread()); }                  \
    extern "C" void __tsan_write##BYTES(void *address) { note(address, BYTES, true, shim_thread()); }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
extern "C" void __tsan_read_range(void *address, size_t bytes) { note(address, bytes, false, shim_thread()); }
extern "C" void __tsan_write_range(void *address, size_t bytes) { note(address, bytes, true, shim_thread()); }
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit() {}
