// Does what the lines of its standard input say, by TensorRT; see driver.hpp. Knows nothing of onnxruntime.
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include <fusioncam/tensorrt.hpp>

#include "../driver.hpp"
#include "fake.hpp"

namespace {

using Opener = fc::TensorRTExplainer;

std::map<std::string, std::unique_ptr<Opener>> opened;

/// The explainer of an engine and a bundle, which stays open.
Opener &explainer(Arguments &a) {
    const std::string engine = a.word(), bundle = a.word();
    auto &found = opened[engine + "\t" + bundle];
    if (!found) {
        found = std::make_unique<Opener>(engine, bundle);
    }
    return *found;
}

std::string explain_input(Arguments &&a) {
    const Opener &opener = explainer(a);
    return explain_input(opener, a);
}

std::string explain_photo(Arguments &&a) {
    const Opener &opener = explainer(a);
    return explain_photo(opener, a);
}

std::string explain_target(Arguments &&a) {
    const Opener &opener = explainer(a);
    return explain_target(opener, a);
}

std::string explain_in_threads(Arguments &&a) {
    const Opener &opener = explainer(a);
    return explain_in_threads(opener, a);
}

/// Opens and closes, and gives how much that leaves on the GPU.
std::string open_bundle(Arguments &&a) {
    const std::size_t before = fake::alive();
    std::string labels;
    try {
        const std::string engine = a.word(), bundle = a.word();
        const fc::Manifest m = Opener(engine, bundle).manifest();
        for (const std::string &label : m.labels) {
            labels += "|" + label;
        }
        labels = m.preprocessing.size.text() + " " + m.ending + " " + m.layer + labels;
    } catch (const fc::Error &) {
        if (fake::alive() != before) {
            throw std::logic_error("memory or a stream was left on the GPU");
        }
        throw;
    }
    return labels + "\t" + std::to_string(fake::alive() - before);
}

/// Makes an explainer where GPU 1 is current, and runs it in a thread where GPU 0 is: gives both threads' GPUs at the end.
std::string explain_elsewhere(Arguments &&a) {
    const std::string engine = a.word(), bundle = a.word();
    int here = -1, there = -1;
    cudaSetDevice(1);
    const Opener opener(engine, bundle);
    cudaGetDevice(&here);
    std::string said;
    std::thread([&] {
        said = explain_photo(opener, a);
        cudaGetDevice(&there);
    }).join();
    cudaSetDevice(0);
    return std::to_string(here) + " " + std::to_string(there) + " " + said;
}

std::string fail(Arguments &&a) {
    const std::string function = a.word();
    fake::fail(function, static_cast<int>(a.number()));
    return "";
}

const Commands COMMANDS{
    {"open", open_bundle},           {"input", explain_input},         {"photo", explain_photo}, {"target", explain_target},
    {"threads", explain_in_threads}, {"elsewhere", explain_elsewhere}, {"fail", fail},
};

} // namespace

int main() {
    const int status = answer_lines(COMMANDS);
    opened.clear(); // while the stand-ins still know what is theirs
    return status;
}
