// Lists the objects that a detector finds, explains one of them, and writes the map laid over the picture:
//
//     fusioncam_box BUNDLE PICTURE OVERLAY [CLASS [X1 Y1 X2 Y2]]
//
// CLASS is a number, -1 any; the box is in pixels of PICTURE. By default the likeliest object is explained.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include <fusioncam.hpp>

namespace {

double number(const char *text) {
    char *end = nullptr;
    const double value = std::strtod(text, &end);
    if (end == text || *end) {
        throw fusioncam::UsageError("CLASS and the box must be numbers, not '" + std::string(text) + "'");
    }
    return value;
}

fusioncam::Box target(int count, char **words) {
    fusioncam::Box box;
    if (count > 0) {
        box.index = static_cast<std::int64_t>(number(words[0]));
    }
    if (count > 1) {
        box.box = {number(words[1]), number(words[2]), number(words[3]), number(words[4])};
    }
    return box;
}

void explain(char **names, const fusioncam::Box &box) {
    const fusioncam::Photo photo = fusioncam::read_image(names[1]);
    for (const fusioncam::Detection &detection : fusioncam::Detector(names[0]).detect(photo)) {
        std::printf("%s\n", detection.title().c_str());
    }
    const fusioncam::Explanation explanation = fusioncam::Explainer(names[0]).explain(photo, box);
    fusioncam::write_image(names[2], fusioncam::overlay(photo, explanation.on_photo("fusion_cam")));
    std::printf("%s, score %.3f -> %s\n", explanation.title().c_str(), explanation.probability, names[2]);
}

} // namespace

int main(int count, char **arguments) {
    if (count != 4 && count != 5 && count != 9) {
        std::fprintf(stderr, "usage: %s BUNDLE PICTURE OVERLAY [CLASS [X1 Y1 X2 Y2]]\n", arguments[0]);
        return 2;
    }
    try {
        explain(arguments + 1, target(count - 4, arguments + 4));
    } catch (const fusioncam::UsageError &error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 2;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 1;
    }
    return 0;
}
