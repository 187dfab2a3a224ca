// The detection that a target names: as Python's runtime/targets/boxes.py.
#ifndef FUSIONCAM_NAMING_HPP
#define FUSIONCAM_NAMING_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "detections.hpp"
#include "error.hpp"
#include "interface.hpp"
#include "manifest.hpp"
#include "picture.hpp"
#include "target.hpp"

namespace fusioncam {
namespace detail {

inline constexpr double HALF = 0.5; // least overlap of a user's box with the detection that it names

/// Throws UsageError where a picture has no detection of a class, or of any.
[[noreturn]] inline void refuse_none(const Anchors &anchors, std::int64_t c, double conf, const Manifest &manifest) {
    const std::string name = c < 0 ? "detection" : "detection of " + name_of_class(c, manifest);
    const std::optional<Detection> best = anchors.best(c);
    if (!best) {
        throw UsageError("no " + name + " is in this picture: another class is more likely everywhere; give its box");
    }
    if (best->score >= conf) {
        throw UsageError("no " + name + " is in this picture: the best, " + best->title() +
                         ", is a duplicate of another class's");
    }
    throw UsageError("no " + name + " has a score of " + formatted("%g", conf) + " or more: the best is " + best->title() +
                     "; lower conf to explain it");
}

/// Throws UsageError for a box that no detection overlaps enough, and names the nearest one.
[[noreturn]] inline void refuse_nowhere(const Corners &box, const std::vector<Detection> &found) {
    const auto apart = [&box](const Detection &d) {
        return std::hypot(d.box[0] + d.box[2] - box[0] - box[2], d.box[1] + d.box[3] - box[1] - box[3]);
    };
    const auto nearest = std::min_element(found.begin(), found.end(), [&](const Detection &a, const Detection &b) {
        const double one = overlap(box, a.box), two = overlap(box, b.box);
        return one != two ? one > two : one == 0 && apart(a) < apart(b);
    });
    throw UsageError("no detection overlaps the box (" + place_of(box) + ") by at least a half: the nearest is " +
                     nearest->title() + ", which overlaps it by " + formatted("%.2f", overlap(box, nearest->box)) +
                     "; give that box, or lower conf");
}

/// The detection that a target names; throws UsageError where there is none.
inline Detection named(const Box &target, const Anchors &anchors, const Manifest &manifest) {
    const double conf = target.conf.value_or(manifest.boxes.conf);
    const std::vector<Detection> found = anchors.found(conf);
    std::vector<Detection> own;
    std::copy_if(found.begin(), found.end(), std::back_inserter(own),
                 [&target](const Detection &d) { return target.index < 0 || d.class_index == target.index; });
    if (!target.box) {
        if (own.empty()) {
            refuse_none(anchors, target.index, conf, manifest);
        }
        return own.front();
    }
    if (found.empty()) {
        refuse_none(anchors, -1, conf, manifest);
    }
    for (const std::vector<Detection> *some : std::initializer_list<const std::vector<Detection> *>{&own, &found}) {
        const auto best = std::max_element(some->begin(), some->end(), [&](const Detection &a, const Detection &b) {
            return overlap(*target.box, a.box) < overlap(*target.box, b.box);
        });
        if (best != some->end() && overlap(*target.box, best->box) >= HALF) {
            return *best;
        }
    }
    refuse_nowhere(*target.box, own.empty() ? found : own);
}

/// Points the tensors of a target at the detection that it names, and gives whether the graph had taken another one.
/// Throws NotFiniteError where the detections are not finite, UsageError where none is named.
inline bool points_elsewhere(const Target &target, const Outputs &outputs, std::optional<Size> photo, TargetTensors &tensors,
                             const Manifest &manifest) {
    const std::optional<Box> box = manifest.is_detector() ? box_of(target) : std::nullopt;
    if (!box) {
        return false;
    }
    check_finite(outputs, form_of(manifest));
    const Detection detection = named(*box, Anchors(outputs.floats.at("detections"), photo, manifest), manifest);
    tensors.anchor = detection.anchor;
    tensors.class_index = box->index < 0 ? detection.class_index : box->index;
    return outputs.integers.at("explained_anchor").front() != tensors.anchor ||
           outputs.integers.at("explained_class").front() != tensors.class_index;
}

} // namespace detail
} // namespace fusioncam

#endif
