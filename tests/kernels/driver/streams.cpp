// What streams do, and in what order: copies and events.
#include "state.hpp"

#include <string.h>

namespace {

Result copy(void *to, const void *from, size_t size, uint64_t on_device, Stream *stream, Context *here)
{
    if (!known(state().streams, stream, here)) return mistake(INVALID_HANDLE, "a copy on no stream");
    const Block *const block = block_of(state().memory, on_device, size);
    if (block == nullptr || block->context != here) return mistake(INVALID_VALUE, "a copy beyond device memory");
    stream->queue.push_back([=] { memcpy(to, from, size); });
    return SUCCESS;
}

} // namespace

API cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, Stream *stream)
{
    HERE;
    return copy(reinterpret_cast<void *>(to), from, size, to, stream, here);
}

API cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, Stream *stream)
{
    HERE;
    return copy(to, reinterpret_cast<const void *>(from), size, from, stream, here);
}

API cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, Stream *stream)
{
    HERE;
    if (block_of(state().memory, from, size) == nullptr) return mistake(INVALID_VALUE, "a copy from beyond device memory");
    return copy(reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), size, to, stream, here);
}

API cuStreamCreateWithPriority(Stream **stream, unsigned flags, int)
{
    HERE;
    if (flags != 1) mistake(SUCCESS, "a stream that waits for the default stream");
    return state().streams.insert(*stream = new Stream{here, {}}), SUCCESS;
}

API cuStreamCreate(Stream **stream, unsigned flags) { return cuStreamCreateWithPriority(stream, flags, 0); }

API cuStreamDestroy_v2(Stream *stream)
{
    HERE;
    if (!known(state().streams, stream, here)) return mistake(INVALID_HANDLE, "no stream destroyed");
    work(stream);
    state().streams.erase(stream); // not deleted: an event may still point to it
    return SUCCESS;
}

API cuStreamSynchronize(Stream *stream)
{
    HERE;
    if (!known(state().streams, stream, here)) return mistake(INVALID_HANDLE, "waited for no stream");
    work(stream);
    return stream->failure;
}

API cuEventCreate(Event **event, unsigned flags)
{
    HERE;
    return state().events.insert(*event = new Event{here, !(flags & 2), bool(flags & 1), {}}), SUCCESS;
}

API cuEventDestroy_v2(Event *event)
{
    HERE;
    if (!known(state().events, event, here)) return mistake(INVALID_HANDLE, "no event destroyed");
    state().events.erase(event);
    delete event;
    return SUCCESS;
}

API cuEventRecord(Event *event, Stream *stream)
{
    HERE;
    if (!known(state().events, event, here) || !known(state().streams, stream, here))
        return mistake(INVALID_HANDLE, "recorded no event, or on no stream");
    const auto happening = event->last = std::make_shared<Happening>(Happening{stream, false, {}});
    stream->queue.push_back([=] {
        happening->done = true;
        happening->when = std::chrono::steady_clock::now();
    });
    return SUCCESS;
}

API cuStreamWaitEvent(Stream *stream, Event *event, unsigned)
{
    HERE;
    if (!known(state().events, event, here) || !known(state().streams, stream, here))
        return mistake(INVALID_HANDLE, "waits for no event, or on no stream");
    if (const auto happening = event->last)
        stream->queue.push_back([=] { work(happening->stream, happening.get()); });
    return SUCCESS;
}

API cuEventSynchronize(Event *event)
{
    HERE;
    if (!known(state().events, event, here)) return mistake(INVALID_HANDLE, "waited for no event");
    if (!event->blocking) mistake(SUCCESS, "a wait that keeps a core busy");
    if (!event->last) return SUCCESS;
    work(event->last->stream, event->last.get());
    return event->last->stream->failure;
}

API cuEventElapsedTime_v2(float *milliseconds, Event *start, Event *end)
{
    HERE;
    for (Event *event : {start, end}) {
        if (!known(state().events, event, here) || !event->timing || !event->last)
            return mistake(INVALID_HANDLE, "timed something else than an event");
        if (!event->last->done) return NOT_READY;
    }
    *milliseconds = std::chrono::duration<float, std::milli>(end->last->when - start->last->when).count();
    return SUCCESS;
}

API cuEventElapsedTime(float *ms, Event *start, Event *end) { return cuEventElapsedTime_v2(ms, start, end); }
