// The result of explaining one target of one picture.
#ifndef FUSIONCAM_EXPLANATION_HPP
#define FUSIONCAM_EXPLANATION_HPP

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "detections.hpp"
#include "error.hpp"
#include "geometry.hpp"
#include "manifest.hpp"
#include "picture.hpp"
#include "probabilities.hpp"

namespace fusioncam {

/// Why a model sees a class in a picture, or a likeness.
struct Explanation {
    std::map<std::string, Saliency> maps; ///< fusion_cam, grad_cam and score_cam, at the size of the model's input
    std::int64_t class_index = -1;        ///< the class that is explained; -1 for a likeness
    std::optional<Corners> box;           ///< of the detection that is explained, in pixels of the photo
    std::optional<std::string> label;     ///< its name, where the graph has labels; of values and likenesses always
    double score = 0;                     ///< of the target: a logit, its mean or maximum over the region, or the cosine
    double probability = 0;               ///< the confidence, 0..1 for classes; of values and likenesses as the score
    std::vector<Detection> detections;    ///< of the picture, the likeliest first, where the model detects
    std::vector<float> logits;            ///< one per class, or maps (C, h', w'); none for a likeness or a detection
    std::vector<double> probabilities;    ///< one per class; for a regression the values themselves; none of maps
    Saliency region;                      ///< weights of the region on the maps' grid, Manifest::map_size; of maps
    std::vector<float> embedding;         ///< of the picture, where the model gives one
    std::vector<std::string> flags;       ///< flat_METHOD: the map is blank; others as in Python
    std::optional<Size> photo_size;       ///< of the photo that was given; none where the input came preprocessed
    Preprocessing preprocessing;          ///< how the photo became the model's input

    /// The target as a person would name it.
    std::string title() const { return label && !label->empty() ? *label : "class " + std::to_string(class_index); }

    /// A map at the size of the model's input; throws UsageError where there is none of that name.
    const Saliency &map(const std::string &method) const {
        const auto found = maps.find(method);
        if (found == maps.end()) {
            std::string names;
            for (const auto &entry : maps) {
                names += (names.empty() ? "" : ", ") + entry.first;
            }
            throw UsageError("no map of " + detail::quoted(method) + " was made; there are " + names);
        }
        return found->second;
    }

    /// A map at the resolution of the photo, where what the model did not see of it is 0.
    /// Throws UsageError where there is no such map, or the input came preprocessed: there is no photo.
    Saliency on_photo(const std::string &method) const {
        const Saliency &saliency = map(method);
        if (!photo_size) {
            throw UsageError(
                "the input came preprocessed, so there is no photo to lay the map on; pass the photo itself");
        }
        return fusioncam::on_photo(saliency, *photo_size, preprocessing);
    }
};

} // namespace fusioncam

#endif
