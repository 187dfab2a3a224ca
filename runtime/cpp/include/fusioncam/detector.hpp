// The detections of pictures, without explaining them: targets to choose from.
#ifndef FUSIONCAM_DETECTOR_HPP
#define FUSIONCAM_DETECTOR_HPP

#include <onnxruntime_cxx_api.h>

#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "answer.hpp"
#include "detections.hpp"
#include "error.hpp"
#include "explainer.hpp"
#include "interface.hpp"
#include "manifest.hpp"
#include "onnx_metadata.hpp"
#include "picture.hpp"
#include "session.hpp"
#include "target.hpp"

namespace fusioncam {

/// Detects objects in pictures with a bundle's explain.onnx, by one pass each.
///
///     for (const fusioncam::Detection &d : fusioncam::Detector("model.fcam").detect(photo)) {
///         explainer.explain(photo, fusioncam::Box{d.class_index, d.box, {}});
///     }
///
/// Any number of threads may share one.
class Detector {
  public:
    /// Opens the whole folder of a bundle: its fusioncam.onnx says how pictures are prepared.
    ///
    /// Throws BundleError where a file is missing or damaged, UsageError where the model detects nothing.
    explicit Detector(const std::filesystem::path &bundle,
                      const Ort::SessionOptions &options = Explainer::default_options())
        : manifest_(checked(detail::manifest_of(bundle))), session_(bundle / detail::EXPLAIN_GRAPH, options) {}

    /// The detections in a photo of any size, the likeliest first. `conf` is the least score of one, by default the
    /// manifest's. Throws as Explainer::explain.
    std::vector<Detection> detect(const PhotoView &photo, std::optional<double> conf = std::nullopt) const {
        return run(detail::input_of(photo, manifest_).data(), photo.size, conf);
    }

    /// The detections in a preprocessed input; the values are not copied.
    std::vector<Detection> detect(const InputView &input, std::optional<double> conf = std::nullopt) const {
        detail::check_input(input, manifest_);
        return run(input.values, std::nullopt, conf);
    }

  private:
    static Manifest checked(Manifest manifest) {
        if (!manifest.is_detector()) {
            throw UsageError("the model detects no objects: there are no boxes to list");
        }
        return manifest;
    }

    std::vector<Detection> run(const float *x, std::optional<Size> photo, std::optional<double> conf) const {
        detail::TargetTensors any;
        any.weights.back() = 1; // of the class, whatever that is; detections do not depend on it
        detail::check_conf(conf);
        const detail::Tensor output = detail::form_of(manifest_);
        const detail::Outputs outputs =
            session_.run(detail::inputs_of(manifest_), {output}, x, any, Ort::RunOptions{nullptr});
        detail::check_finite(outputs, output);
        const detail::Anchors anchors(outputs.floats.at(output.name), photo, manifest_);
        return anchors.found(conf.value_or(manifest_.boxes.conf));
    }

    Manifest manifest_;
    detail::Session session_;
};

} // namespace fusioncam

#endif
