// The boxes of a picture that count, out of all that a detector gives: what Python's runtime/targets/detections.py and
// suppression.py find.
#ifndef FUSIONCAM_DETECTIONS_HPP
#define FUSIONCAM_DETECTIONS_HPP

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "geometry.hpp"
#include "manifest.hpp"
#include "picture.hpp"
#include "probabilities.hpp"

namespace fusioncam {

namespace detail {

/// A number as a format of printf has it, "%g" for instance.
inline std::string formatted(const char *format, double value) {
    char text[64];
    std::snprintf(text, sizeof text, format, value);
    return text;
}

/// A box in whole pixels, as titles and errors name it: 10, 20, 200, 300.
inline std::string place_of(const Corners &box) {
    std::string result;
    for (const double edge : box) {
        result += (result.empty() ? "" : ", ") + formatted("%.0f", std::nearbyint(edge) + 0.0);
    }
    return result;
}

} // namespace detail

/// An object that a detector found in a picture.
struct Detection {
    Corners box;                      ///< in pixels of the photo, clipped to it; of an input that came preprocessed, of that
    std::int64_t class_index = 0;     ///< its class
    std::optional<std::string> label; ///< the name of the class, where the graph has labels
    double score = 0;                 ///< its probability, 0..1
    std::int64_t anchor = 0;          ///< the place or query of the detector that made it

    /// Its class, score and place, in a few words.
    std::string title() const {
        const std::string number = label && !label->empty() ? *label : std::to_string(class_index);
        const bool digits = number.find_first_not_of("0123456789") == std::string::npos;
        const std::string shown = detail::formatted(score < 0.005 ? " %.2g" : " %.2f", score);
        return (digits ? "class " : "") + number + shown + " at " + detail::place_of(box);
    }
};

namespace detail {

inline double area_of(const Corners &b) { return std::max(b[2] - b[0], 0.0) * std::max(b[3] - b[1], 0.0); }

/// The intersection over union of two boxes; 0 where both are empty.
inline double overlap(const Corners &a, const Corners &b) {
    const double shared = area_of({std::max(a[0], b[0]), std::max(a[1], b[1]), std::min(a[2], b[2]), std::min(a[3], b[3])});
    return shared / std::max(area_of(a) + area_of(b) - shared, 1e-12);
}

/// The likeness of two rotated boxes (centre, width, height, angle): ProbIoU, arXiv 2106.06072.
inline double likeness(const float *a, const float *b) {
    struct Covariance {
        double xx, yy, xy;
        double determinant() const { return xx * yy - xy * xy; }
    };
    const auto covariance = [](const float *box) {
        const double along = std::pow(double{box[2]}, 2) / 12, across = std::pow(double{box[3]}, 2) / 12;
        const double c = std::cos(double{box[4]}), s = std::sin(double{box[4]});
        return Covariance{along * c * c + across * s * s, along * s * s + across * c * c, (along - across) * c * s};
    };
    constexpr double least = 1e-12;
    const Covariance one = covariance(a), two = covariance(b);
    const Covariance sum{one.xx + two.xx, one.yy + two.yy, one.xy + two.xy};
    const double dx = double{b[0]} - double{a[0]}, dy = double{b[1]} - double{a[1]};
    const double determinant = std::max(sum.determinant(), least);
    const double apart = (sum.yy * dx * dx + sum.xx * dy * dy - 2 * sum.xy * dx * dy) / (4 * determinant);
    const double own = std::max(one.determinant() * two.determinant(), least * least);
    return 1 - std::sqrt(-std::expm1(-(apart + std::log(std::max(determinant / (4 * std::sqrt(own)), 1.0)) / 2)));
}

/// All that a detector gives of one picture: a box and a score of every class at every anchor.
class Anchors {
  public:
    /// `form` is the output `detections`; `photo` is the size of the photo, none where the input came preprocessed.
    Anchors(const std::vector<float> &form, std::optional<Size> photo, const Manifest &manifest)
        : form_(form.data()), columns_(form.size() / manifest.boxes.anchors),
          way_(way_of(photo, manifest.preprocessing)), manifest_(manifest) {}

    /// The detections of at least a score, the likeliest first, without duplicates.
    std::vector<Detection> found(double conf) const {
        std::vector<Detection> candidates = likely(conf);
        std::stable_sort(candidates.begin(), candidates.end(),
                         [](const Detection &a, const Detection &b) { return a.score > b.score; });
        const BoxFacts &facts = manifest_.boxes;
        const bool rotated = facts.extra == "rotated";
        std::vector<Detection> result, others; // those that make later ones duplicates
        for (const Detection &d : candidates) {
            const bool is_new = std::none_of(others.begin(), others.end(), [&](const Detection &o) {
                return (!facts.class_wise || d.class_index == o.class_index) && alike(d, o, rotated) > facts.iou;
            });
            if (facts.nms && (is_new || rotated)) { // as Ultralytics has it, a rotated duplicate has duplicates of its own
                others.push_back(d);
            }
            if (is_new) {
                result.push_back(d);
            }
        }
        result.resize(std::min(result.size(), facts.most));
        return result;
    }

    /// The detection of a class that has the highest score, however low that is; none where no anchor has the class.
    std::optional<Detection> best(std::int64_t class_index) const {
        std::optional<Detection> result;
        for (const Detection &d : likely(0)) {
            if ((class_index < 0 || d.class_index == class_index) && (!result || d.score > result->score)) {
                result = d;
            }
        }
        return result;
    }

    /// A box of the model's input on the photo, clipped to it.
    Corners on_photo(const float *box) const {
        Corners result;
        for (std::size_t i = 0; i < result.size(); ++i) {
            const Axis &axis = i % 2 ? way_.rows : way_.columns;
            const auto whole = static_cast<double>(axis.whole);
            result[i] = std::clamp((double{box[i]} + axis.start) / (axis.resized / whole), 0.0, whole);
        }
        return result;
    }

  private:
    const float *row(std::int64_t anchor) const { return form_ + static_cast<std::size_t>(anchor) * columns_; }

    double alike(const Detection &a, const Detection &b, bool rotated) const {
        if (rotated) {
            const std::size_t at = columns_ - manifest_.boxes.extras;
            return likeness(row(a.anchor) + at, row(b.anchor) + at);
        }
        const auto exact = [this](const Detection &d) {
            const float *box = row(d.anchor);
            return Corners{box[0], box[1], box[2], box[3]};
        };
        return overlap(exact(a), exact(b));
    }

    /// The best class of each anchor, or every class, of at least a score.
    std::vector<Detection> likely(double conf) const {
        const std::size_t numbers = manifest_.numbers();
        std::vector<Detection> result;
        for (std::size_t anchor = 0; anchor < manifest_.boxes.anchors; ++anchor) {
            const float *box = form_ + anchor * columns_;
            std::vector<double> scores = probabilities({box + 4, box + 4 + numbers}, manifest_.ending);
            if (manifest_.boxes.background) {
                scores[*manifest_.boxes.background] = -1;
            }
            const auto best = std::max_element(scores.begin(), scores.end());
            for (auto score = scores.begin(); score != scores.end(); ++score) {
                if (*score >= conf && (manifest_.boxes.multi_label || score == best)) {
                    const auto c = static_cast<std::size_t>(score - scores.begin());
                    Detection d{on_photo(box), static_cast<std::int64_t>(c), std::nullopt, *score, 0};
                    d.anchor = static_cast<std::int64_t>(anchor);
                    if (!manifest_.labels.empty()) {
                        d.label = manifest_.labels[c];
                    }
                    result.push_back(d);
                }
            }
        }
        return result;
    }

    const float *form_;
    std::size_t columns_;
    Axes way_;
    const Manifest &manifest_;
};

} // namespace detail
} // namespace fusioncam

#endif
