// A GPU of one multiprocessor and one thread at a time: blocks one after another, every thread of a block on a stack
// of its own until the next barrier, both in an order that is shuffled anew each time. Linux on x86-64.
#include "shim.hpp"

#include "cuda.hpp"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <mutex>
#include <numeric>
#include <vector>

ShimIndex threadIdx, blockIdx, blockDim, gridDim;

using Call = void (*)(void **);

namespace {

constexpr size_t MOST_THREADS = 1024;
constexpr size_t STACK = (32 << 10) + 208; // no power of two, or all stacks would fall into the same few cache lines
const char *const LEFT = "the end of the kernel", *const UNDEFINED = "undefined behaviour";

struct Fiber {
    void *stack;
    const char *place; // of the barrier it waits at
};
Fiber fibers[MOST_THREADS];
void *scheduler;
unsigned running;
Call kernel;
void **arguments;
uint64_t state; // of the random numbers

char message[512];
std::mutex launching; // blocks share their static memory, so there is one launch at a time
thread_local sigjmp_buf *landing;
void *touched;
enum { FAILED = -1 }; // beside the numbers of signals

// Saves the registers a call keeps, and the stack; goes on where `to` was saved. swapcontext would ask the kernel to
// change the signal mask each time.
extern "C" void shim_switch(void **from, void *to) __attribute__((visibility("hidden")));
asm(R"(
    .text
    .hidden shim_switch
    .globl shim_switch
    .type shim_switch, @function
shim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size shim_switch, .-shim_switch
)");

void leave(const char *place)
{
    fibers[running].place = place;
    shim_switch(&fibers[running].stack, scheduler);
}

void begin()
{
    kernel(arguments);
    leave(LEFT);
}

void *fresh_stack(unsigned thread)
{
    constexpr int FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    static char *const all =
        static_cast<char *>(mmap(nullptr, STACK * MOST_THREADS, PROT_READ | PROT_WRITE, FLAGS, -1, 0));
    // Six registers to restore, where to begin, and a return address that is never used.
    void **top = reinterpret_cast<void **>(all + STACK * (thread + 1)) - 8;
    memset(top, 0, 8 * sizeof *top);
    top[6] = reinterpret_cast<void *>(&begin);
    return top;
}

uint64_t random_below(uint64_t bound)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 32) * bound >> 32;
}

template <class Number> void shuffle(std::vector<Number> &order)
{
    for (size_t i = order.size(); i > 1; i--) std::swap(order[i - 1], order[random_below(i)]);
}

bool apart(const char *one, const char *other) { return one != other && strcmp(one, other) != 0; }

// Runs the block named by blockIdx.
void run_block(std::vector<unsigned> &order)
{
    memset(__start_block_shared, state & 1 ? 0xff : 0xcd, size_t(__stop_block_shared - __start_block_shared));
    for (unsigned thread : order) fibers[thread] = {fresh_stack(thread), nullptr};
    races_in_new_block();
    do {
        shuffle(order);
        races_after_barrier();
        for (unsigned thread : order) {
            running = threadIdx.x = thread;
            shim_switch(&scheduler, fibers[thread].stack);
        }
        for (unsigned thread : order) {
            if (!apart(fibers[thread].place, fibers[0].place)) continue;
            shim_fail(
                nullptr, "divergent barrier: thread 0 is at %s, thread %u at %s", fibers[0].place, thread,
                fibers[thread].place);
        }
    } while (fibers[0].place != LEFT);
}

void on_fault(int number, siginfo_t *info, void *)
{
    if (landing == nullptr) { // not this launch's doing
        signal(number, SIG_DFL);
        return;
    }
    touched = info->si_addr;
    siglongjmp(*landing, number);
}

// Makes faults of the kernel come back to the launch.
class Net {
    static constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    struct sigaction before[4];
    stack_t stack_before;

  public:
    Net()
    {
        static char room[64 << 10]; // a fiber's stack may be what faulted
        stack_t stack = {room, 0, sizeof room};
        sigaltstack(&stack, &stack_before);
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        for (int i = 0; i < 4; i++) sigaction(SIGNALS[i], &action, &before[i]);
    }
    ~Net()
    {
        landing = nullptr;
        for (int i = 0; i < 4; i++) sigaction(SIGNALS[i], &before[i], nullptr);
        sigaltstack(&stack_before, nullptr);
    }
};

} // namespace

void shim_barrier(const char *place) { leave(place); }

void shim_fail(const void *address, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(message, sizeof message, format, values);
    va_end(values);
    touched = const_cast<void *>(address);
    siglongjmp(*landing, FAILED);
}

unsigned shim_thread() { return running; }

int atomicAdd(int *address, int value)
{
    races_at_atomic(address);
    const int old = *address;
    *address = old + value;
    return old;
}

// Runs a kernel, all of its blocks but the first `skipped`. What went wrong, or null; where it touched memory that it
// must not, `*address` is that.
extern "C" const char *shim_launch(
    Call call, void **values, const unsigned *grid, unsigned block, size_t skipped, uint64_t seed, void **address)
{
    const std::lock_guard<std::mutex> lock(launching);
    const Net net;
    std::vector<size_t> blocks(size_t(grid[0]) * grid[1] * grid[2] - skipped);
    std::vector<unsigned> threads(block);
    std::iota(blocks.begin(), blocks.end(), skipped);
    std::iota(threads.begin(), threads.end(), 0u);
    kernel = call, arguments = values;
    races_in_new_launch();
    touched = nullptr;
    state = (seed + 1) * 0x9e3779b97f4a7c15u | 1;
    gridDim = {grid[0], grid[1], grid[2]}, blockDim = {block, 1, 1}, threadIdx = {0, 0, 0};

    sigjmp_buf here;
    if (const int number = sigsetjmp(here, 1)) {
        if (number != FAILED) snprintf(message, sizeof message, "%s", number == SIGILL ? UNDEFINED : strsignal(number));
        const size_t length = strlen(message);
        snprintf(
            message + length, sizeof message - length, " (block %u, %u, %u, thread %u)", blockIdx.x, blockIdx.y,
            blockIdx.z, running);
        *address = touched;
        return message;
    }
    landing = &here;
    shuffle(blocks);
    for (size_t b : blocks) {
        blockIdx = {unsigned(b % grid[0]), unsigned(b / grid[0] % grid[1]), unsigned(b / grid[0] / grid[1])};
        run_block(threads);
    }
    return nullptr;
}
