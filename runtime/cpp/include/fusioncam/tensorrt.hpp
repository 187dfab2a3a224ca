// fusioncam by TensorRT, without onnxruntime: an engine that was built of a bundle's fusioncam.onnx explains pictures.
//
//     fusioncam::TensorRTExplainer explainer("model.engine", "model.fcam");
//     fusioncam::Explanation explanation = explainer.explain(fusioncam::read_image("photo.jpg"));
//
// Needs the headers and libraries of TensorRT 10 or later, or of TensorRT-RTX, and CUDA's runtime.
#ifndef FUSIONCAM_TENSORRT_HPP
#define FUSIONCAM_TENSORRT_HPP

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "answer.hpp"
#include "error.hpp"
#include "explanation.hpp"
#include "images.hpp"
#include "interface.hpp"
#include "manifest.hpp"
#include "onnx_metadata.hpp"
#include "overlay.hpp"
#include "picture.hpp"
#include "tensorrt_engine.hpp"

namespace fusioncam {
namespace detail {

/// The manifest in the metadata of a bundle's single graph.
inline Manifest manifest_of(const std::filesystem::path &bundle) {
    const std::filesystem::path file = graph_file(bundle);
    const std::map<std::string, std::string> metadata = onnx_metadata(file);
    return read_manifest(path_text(file), [&metadata](const std::string &key) {
        const auto found = metadata.find(key);
        return found == metadata.end() ? std::nullopt : std::optional<std::string>(found->second);
    });
}

} // namespace detail

/// Explains pictures with a TensorRT engine.
///
/// One TensorRTExplainer may be used by any number of threads; they take turns on its GPU, which is the one that is
/// current (cudaSetDevice) where the TensorRTExplainer is made.
class TensorRTExplainer {
  public:
    /// Loads an engine, and reads preprocessing and labels of the bundle it was built of: the folder, or its
    /// fusioncam.onnx, whose weights are not read.
    ///
    /// Throws BundleError where one of them is missing or damaged, or they do not belong together as far as names, types
    /// and shapes show; Error where CUDA or TensorRT cannot start.
    TensorRTExplainer(const std::filesystem::path &engine, const std::filesystem::path &bundle)
        : engine_(engine, detail::manifest_of(bundle)) {}

    const Manifest &manifest() const { return engine_.manifest(); }

    /// Explains a class of a photo of any size; -1 is the top class.
    ///
    /// Throws ImageError where the photo is empty or too large, UsageError where there is no such class, NotFiniteError
    /// where the model gives NaN or infinity, Error where it cannot run.
    Explanation explain(const PhotoView &photo, std::int64_t class_index = -1) const {
        detail::check_class(class_index, manifest());
        const std::vector<float> x = detail::input_of(photo, manifest());
        return detail::answer(engine_.run(x.data(), class_index), x.data(), class_index, photo.size, manifest());
    }

    /// Explains a class of a preprocessed input. Otherwise as above.
    Explanation explain(const InputView &input, std::int64_t class_index = -1) const {
        detail::check_class(class_index, manifest());
        detail::check_input(input, manifest());
        return detail::answer(engine_.run(input.values, class_index), input.values, class_index, std::nullopt,
                              manifest());
    }

  private:
    detail::TensorRTEngine engine_;
};

} // namespace fusioncam

#endif
