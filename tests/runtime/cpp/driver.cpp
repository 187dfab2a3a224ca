// Does what the lines of its standard input say, with onnxruntime; see driver.hpp.
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <fusioncam.hpp>

#include "driver.hpp"

namespace {

std::map<std::string, std::unique_ptr<fc::Explainer>> opened;

fc::Explainer &explainer(const std::string &bundle) {
    auto &found = opened[bundle];
    if (!found) {
        found = std::make_unique<fc::Explainer>(bundle);
    }
    return *found;
}

std::string explain_input(Arguments &&a) {
    const fc::Explainer &opener = explainer(a.word());
    return explain_input(opener, a);
}

std::string explain_photo(Arguments &&a) {
    const fc::Explainer &opener = explainer(a.word());
    return explain_photo(opener, a);
}

std::string explain_target(Arguments &&a) {
    const fc::Explainer &opener = explainer(a.word());
    return explain_target(opener, a);
}

std::string embed(Arguments &&a) {
    const fc::Embedder embedder(a.word());
    const fc::Photo photo = a.photo();
    save(a.word(), embedder.embed(photo));
    return "";
}

std::string detect(Arguments &&a) {
    const fc::Detector detector(a.word());
    const fc::Photo photo = a.photo();
    return report(detector.detect(photo), a.word());
}

/// The detections in what a detector gives: the graph, whose metadata alone are read, the file, the size of the photo.
std::string found(Arguments &&a) {
    const fc::Manifest manifest = fc::detail::manifest_of(a.word());
    const std::vector<float> form = load<float>(a.word());
    const std::optional<fc::Size> size = a.size();
    return report(fc::detail::Anchors(form, size, manifest).found(manifest.boxes.conf), a.word());
}

/// The detection that a target names in it: its anchor, and the class that is explained.
std::string named(Arguments &&a) {
    const fc::Manifest manifest = fc::detail::manifest_of(a.word());
    fc::detail::Outputs outputs;
    outputs.floats["detections"] = load<float>(a.word());
    outputs.integers["explained_anchor"] = outputs.integers["explained_class"] = {-1};
    const std::optional<fc::Size> size = a.size();
    const fc::Target target = a.target();
    fc::detail::TargetTensors tensors = fc::detail::tensors_of(target, size, manifest);
    fc::detail::points_elsewhere(target, outputs, size, tensors, manifest);
    return std::to_string(tensors.anchor) + " " + std::to_string(tensors.class_index);
}

std::string read_vector(Arguments &&a) {
    const std::vector<float> values = fc::read_vector(a.word());
    save(a.word(), values);
    return std::to_string(values.size());
}

std::string explain_in_threads(Arguments &&a) {
    const fc::Explainer &opener = explainer(a.word());
    return explain_in_threads(opener, a);
}

/// A run that was told to end before it began.
std::string explain_too_late(Arguments &&a) {
    const fc::Explainer &opener = explainer(a.word());
    Ort::RunOptions run;
    run.SetTerminate();
    return std::to_string(opener.explain(a.photo(), -1, run).class_index);
}

/// Views of buffers that are not there, and sizes whose product overflows.
std::string explain_nothing(Arguments &&a) {
    const fc::Explainer &opener = explainer(a.word());
    const std::string what = a.word();
    const std::uint8_t byte = 0;
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    const auto none = [&] { return fc::PhotoView(nullptr, 0, 0); };
    const auto view = what == "null"   ? fc::PhotoView(nullptr, 4, 5)
                      : what == "flat" ? fc::PhotoView(&byte, 0, 5)
                      : what == "huge" ? fc::PhotoView(&byte, most, most)
                      : what == "wide" ? fc::PhotoView(&byte, 1, fc::MAX_PIXELS + 1)
                                       : none();
    if (what == "no values") {
        const auto size = opener.manifest().preprocessing.size;
        const auto height = static_cast<std::int64_t>(size.height), width = static_cast<std::int64_t>(size.width);
        return std::to_string(opener.explain(fc::InputView{nullptr, {3, height, width}}).class_index);
    }
    return std::to_string(opener.explain(view).class_index);
}

std::string preprocess(Arguments &&a) {
    const fc::Explainer &opener = explainer(a.word());
    const fc::Photo photo = a.photo();
    save(a.word(), fc::preprocess(photo, opener.manifest().preprocessing));
    return "";
}

std::string overlay(Arguments &&a) {
    const fc::Photo photo = a.photo();
    const fc::Saliency saliency{photo.size, load<float>(a.word())};
    const double opacity = static_cast<double>(a.number()) / 100;
    const std::string colormap = a.word(), to = a.word();
#ifdef FUSIONCAM_WITH_OPENCV
    const fc::Colors colors = fc::color_table(colormap);
#else
    const fc::Colors &colors = fc::plasma();
#endif
    save(to, fc::overlay(photo, saliency, colors, opacity).rgb);
    return "";
}

std::string on_photo(Arguments &&a) {
    const fc::Explainer &opener = explainer(a.word());
    const fc::Size of_model = opener.manifest().preprocessing.size;
    const fc::Saliency saliency{of_model, load<float>(a.word())};
    const auto height = static_cast<std::size_t>(a.number()), width = static_cast<std::size_t>(a.number());
    save(a.word(), fc::on_photo(saliency, {height, width}, opener.manifest().preprocessing).values);
    return "";
}

std::string map(Arguments &&a) {
    const fc::Explainer &opener = explainer(a.word());
    const fc::Photo photo = a.photo();
    return opener.explain(photo).map(a.word()).size.text();
}

std::string photo_of_input(Arguments &&a) {
    const fc::Explainer &opener = explainer(a.word());
    const fc::Size size = opener.manifest().preprocessing.size;
    const std::vector<float> x(3 * size.height * size.width, 0.5F);
    const fc::InputView input{x.data(),
                              {3, static_cast<std::int64_t>(size.height), static_cast<std::int64_t>(size.width)}};
    return opener.explain(input).on_photo("fusion_cam").size.text();
}

std::string open_bundle(Arguments &&a) {
    const fc::Manifest m = fc::Explainer(a.word()).manifest();
    return m.preprocessing.size.text() + " " + m.ending + " " + m.layer;
}

template <fc::Photo (*READ)(const std::filesystem::path &)> std::string read_picture(Arguments &&a) {
    const fc::Photo photo = READ(a.word());
    save(a.word(), photo.rgb);
    return photo.size.text();
}

template <void (*WRITE)(const std::filesystem::path &, const fc::PhotoView &)>
std::string write_picture(Arguments &&a) {
    const fc::Photo photo = a.photo();
    WRITE(a.word(), photo);
    return "";
}

const Commands COMMANDS{
    {"open", open_bundle},
    {"input", explain_input},
    {"photo", explain_photo},
    {"target", explain_target},
    {"embed", embed},
    {"detect", detect},
    {"found", found},
    {"named", named},
    {"vector", read_vector},
    {"threads", explain_in_threads},
    {"late", explain_too_late},
    {"nothing", explain_nothing},
    {"preprocess", preprocess},
    {"overlay", overlay},
    {"on_photo", on_photo},
    {"map", map},
    {"photo_of_input", photo_of_input},
    {"read", read_picture<fc::read_image>},
    {"write", write_picture<fc::write_image>},
    {"read_ppm", read_picture<fc::ppm::read_image>},
    {"write_ppm", write_picture<fc::ppm::write_image>},
};

} // namespace

int main() { return answer_lines(COMMANDS); }
