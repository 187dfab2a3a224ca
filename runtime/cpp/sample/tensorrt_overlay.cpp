// Explains a picture by a TensorRT engine, and writes the map laid over it:
//
//     tensorrt_overlay ENGINE BUNDLE PICTURE OVERLAY [CLASS]
//
// With OpenCV the pictures may be JPEG, PNG and so on, without it they are PPM.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include <fusioncam/tensorrt.hpp>

namespace {

std::int64_t number(const char *text) {
    char *end = nullptr;
    const long long value = std::strtoll(text, &end, 10);
    if (end == text || *end) {
        throw fusioncam::UsageError("CLASS must be a whole number, not '" + std::string(text) + "'");
    }
    return value;
}

void explain(char **names, std::int64_t class_index) {
    const fusioncam::TensorRTExplainer explainer(names[0], names[1]);
    const fusioncam::Photo photo = fusioncam::read_image(names[2]);
    const fusioncam::Explanation explanation = explainer.explain(photo, class_index);
    fusioncam::write_image(names[3], fusioncam::overlay(photo, explanation.on_photo("fusion_cam")));
    std::printf("%s %.2f -> %s\n", explanation.title().c_str(), explanation.probability, names[3]);
    for (const std::string &flag : explanation.flags) {
        std::fprintf(stderr, "note: %s\n", flag.c_str());
    }
}

} // namespace

int main(int count, char **arguments) {
    if (count < 5 || count > 6) {
        std::fprintf(stderr, "usage: %s ENGINE BUNDLE PICTURE OVERLAY [CLASS]\n", arguments[0]);
        return 2;
    }
    try {
        explain(arguments + 1, count == 6 ? number(arguments[5]) : -1);
    } catch (const fusioncam::UsageError &error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 2;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 1;
    }
    return 0;
}
