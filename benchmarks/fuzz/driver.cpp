// Explains a picture with a graph, or reads a picture, and says in one line how it ended: "ok ..." or "error: ...".
//
//     driver explain GRAPH RGB HEIGHT WIDTH CLASS | driver read PICTURE | driver read_ppm PICTURE
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include <fusioncam.hpp>

namespace fc = fusioncam;

// The sanitizer's own `new` ends the process where there is not enough memory, in place of throwing. Its `malloc`, which
// watches just as well, can be told not to.
void *operator new(std::size_t size) {
    if (void *found = std::malloc(size ? size : 1)) {
        return found;
    }
    throw std::bad_alloc();
}
void *operator new(std::size_t size, std::align_val_t alignment) {
    void *found = nullptr;
    if (posix_memalign(&found, static_cast<std::size_t>(alignment), size ? size : 1) == 0) {
        return found;
    }
    throw std::bad_alloc();
}
void operator delete(void *given) noexcept { std::free(given); }
void operator delete(void *given, std::size_t) noexcept { std::free(given); }
void operator delete(void *given, std::align_val_t) noexcept { std::free(given); }
void operator delete(void *given, std::size_t, std::align_val_t) noexcept { std::free(given); }

namespace {

constexpr std::chrono::seconds PATIENCE{20};

/// Ends a run that takes too long, as a program would that must answer in time.
class Deadline {
  public:
    Deadline() : thread_([this] { wait(); }) {}
    ~Deadline() {
        {
            const std::lock_guard lock(mutex_);
            done_ = true;
        }
        changed_.notify_one();
        thread_.join();
    }
    const Ort::RunOptions &run() const { return run_; }

  private:
    void wait() {
        std::unique_lock lock(mutex_);
        if (!changed_.wait_for(lock, PATIENCE, [this] { return done_; })) {
            run_.SetTerminate();
        }
    }
    Ort::RunOptions run_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool done_ = false;
    std::thread thread_;
};

std::string explain(char **words) {
    const fc::Explainer explainer{std::string(words[0])};
    std::ifstream file(words[1], std::ios::binary);
    fc::Photo photo;
    photo.rgb.assign(std::istreambuf_iterator<char>(file), {});
    photo.size = {std::stoul(words[2]), std::stoul(words[3])};
    const Deadline deadline;
    const fc::Explanation found = explainer.explain(photo, std::stoll(words[4]), deadline.run());
    for (const auto &[method, saliency] : found.maps) {
        static_cast<void>(fc::overlay(photo, found.on_photo(method), fc::plasma(), 0.7));
    }
    return std::to_string(found.class_index);
}

} // namespace

int main(int count, char **words) {
    try {
        const std::string what = words[1];
        const std::string answer = what == "explain" && count == 7 ? explain(words + 2)
                                   : what == "read_ppm"            ? fc::ppm::read_image(words[2]).size.text()
                                                                   : fc::read_image(words[2]).size.text();
        std::cout << "ok " << answer << std::endl;
    } catch (const fc::Error &error) {
        std::cout << "error: " << error.what() << std::endl;
    }
}
