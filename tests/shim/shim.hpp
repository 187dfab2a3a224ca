// What the parts of the shim know of each other.
#pragma once

#include <stddef.h>
#include <stdint.h>

// The linker's names for the ends of the section; weak, for kernels may have no shared memory.
extern "C" char __start_block_shared[] __attribute__((weak)), __stop_block_shared[] __attribute__((weak));

unsigned shim_thread(); // that runs
[[noreturn]] void shim_fail(const void *address, const char *format, ...) __attribute__((format(printf, 2, 3)));

void races_in_new_launch();
void races_in_new_block();
void races_after_barrier();
void races_at_atomic(const void *address);
