// Explains a target that is more than a class, and writes the map laid over the picture:
//
//     fusioncam_target BUNDLE PICTURE OVERLAY FILE [CLASS]
//
// Of a segmenter FILE is a mask over PICTURE: the region in which the class is explained, by default the one that has most of
// the mask. Of a model of embeddings FILE is the reference that PICTURE is likened to: a vector (.npy), or another picture.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
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

fusioncam::Target target(const fusioncam::Manifest &manifest, const char *bundle, const std::filesystem::path &file,
                         std::int64_t class_index) {
    if (file.extension() == ".npy") {
        return fusioncam::Like{fusioncam::read_vector(file)};
    }
    const fusioncam::Photo other = fusioncam::read_image(file);
    if (manifest.is_embedding()) {
        return fusioncam::Like{fusioncam::Embedder(bundle).embed(other)};
    }
    return fusioncam::Region{class_index, fusioncam::mask_of(other)};
}

void explain(char **names, std::int64_t class_index) {
    const fusioncam::Explainer explainer(names[0]);
    const fusioncam::Photo photo = fusioncam::read_image(names[1]);
    const auto asked = target(explainer.manifest(), names[0], names[3], class_index);
    const fusioncam::Explanation explanation = explainer.explain(photo, asked);
    fusioncam::write_image(names[2], fusioncam::overlay(photo, explanation.on_photo("fusion_cam")));
    std::printf("%s, score %.3f -> %s\n", explanation.title().c_str(), explanation.score, names[2]);
}

} // namespace

int main(int count, char **arguments) {
    if (count < 5 || count > 6) {
        std::fprintf(stderr, "usage: %s BUNDLE PICTURE OVERLAY FILE [CLASS]\n", arguments[0]);
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
