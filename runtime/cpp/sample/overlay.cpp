// Explains a picture and writes the map laid over it:
//
//     fusioncam_overlay BUNDLE PICTURE OVERLAY [CLASS]
//
// With OpenCV the pictures may be JPEG, PNG and so on, without it they are PPM.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include <fusioncam.hpp>

namespace {

std::int64_t number(const char *text) {
    char *end = nullptr;
    const long long value = std::strtoll(text, &end, 10);
    if (end == text || *end) {
        throw fusioncam::UsageError("CLASS must be a whole number, not '" + std::string(text) + "'");
    }
    return value;
}

void explain(const char *bundle, const char *picture, const char *result, std::int64_t class_index) {
    const fusioncam::Explainer explainer(bundle);
    const fusioncam::Photo photo = fusioncam::read_image(picture);
    const fusioncam::Explanation explanation = explainer.explain(photo, class_index);
    fusioncam::write_image(result, fusioncam::overlay(photo, explanation.on_photo("fusion_cam")));
    std::printf("%s %.2f -> %s\n", explanation.title().c_str(), explanation.probability, result);
    for (const std::string &flag : explanation.flags) {
        std::fprintf(stderr, "note: %s\n", flag.c_str());
    }
}

} // namespace

int main(int count, char **arguments) {
    if (count < 4 || count > 5) {
        std::fprintf(stderr, "usage: %s BUNDLE PICTURE OVERLAY [CLASS]\n", arguments[0]);
        return 2;
    }
    try {
        explain(arguments[1], arguments[2], arguments[3], count == 5 ? number(arguments[4]) : -1);
    } catch (const fusioncam::UsageError &error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 2;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 1;
    }
    return 0;
}
