// Does what the lines of its standard input say, and answers each in one line: "ok ..." or "KIND: text of the error".
// Arrays go through files, as raw values.
#include <atomic>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <locale>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <fusioncam.hpp>

namespace fc = fusioncam;

namespace {

/// What Python calls it.
std::string kind_of(const fc::Error &error) {
    const auto is = [&error](auto *kind) { return dynamic_cast<decltype(kind)>(&error) != nullptr; };
    return is(static_cast<const fc::UsageError *>(nullptr))       ? "UsageError"
           : is(static_cast<const fc::BundleError *>(nullptr))    ? "BundleError"
           : is(static_cast<const fc::ImageError *>(nullptr))     ? "ImageError"
           : is(static_cast<const fc::OutputError *>(nullptr))    ? "OutputError"
           : is(static_cast<const fc::DeadlineError *>(nullptr))  ? "DeadlineError"
           : is(static_cast<const fc::NotFiniteError *>(nullptr)) ? "NotFiniteError"
                                                                  : "FusionCamError";
}

/// A locale in which numbers look as in German, where the header must not take or give them so.
struct German : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
};

std::map<std::string, std::unique_ptr<fc::Explainer>> opened;

fc::Explainer &explainer(const std::string &bundle) {
    auto &found = opened[bundle];
    if (!found) {
        found = std::make_unique<fc::Explainer>(bundle);
    }
    return *found;
}

template <typename T> std::vector<T> load(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    std::vector<T> values(bytes.size() / sizeof(T));
    std::copy_n(bytes.data(), values.size() * sizeof(T), reinterpret_cast<char *>(values.data()));
    return values;
}

template <typename T> void save(const std::string &path, const std::vector<T> &values) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char *>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
}

/// The arguments of a command, in their order.
struct Arguments {
    std::istringstream stream;

    std::string word() {
        std::string value;
        std::getline(stream, value, '\t');
        return value;
    }
    std::int64_t number() { return std::stoll(word()); }
    fc::Photo photo() {
        fc::Photo result;
        result.rgb = load<std::uint8_t>(word());
        result.size.height = static_cast<std::size_t>(number());
        result.size.width = static_cast<std::size_t>(number());
        return result;
    }
};

/// Writes the arrays to files that begin with `to`, and gives the rest.
std::string report(const fc::Explanation &e, const std::string &to) {
    for (const auto &[method, saliency] : e.maps) {
        save(to + "." + method, saliency.values);
        if (e.photo_size) {
            save(to + "." + method + ".photo", e.on_photo(method).values);
        }
    }
    save(to + ".logits", e.logits);
    save(to + ".probabilities", e.probabilities);
    std::string flags;
    for (const std::string &flag : e.flags) {
        flags += (flags.empty() ? "" : ",") + flag;
    }
    return std::to_string(e.class_index) + "\t" + e.title() + "\t" + flags;
}

std::string explain_input(Arguments &&a) {
    const fc::Explainer &opener = explainer(a.word());
    const std::vector<float> values = load<float>(a.word());
    const std::int64_t index = a.number();
    const std::string to = a.word();
    std::vector<std::int64_t> shape;
    while (a.stream.good()) {
        shape.push_back(a.number());
    }
    return report(opener.explain(fc::InputView{values.data(), shape}, index), to);
}

std::string explain_photo(Arguments &&a) {
    const fc::Explainer &opener = explainer(a.word());
    const fc::Photo photo = a.photo();
    const std::int64_t index = a.number();
    return report(opener.explain(photo, index), a.word());
}

/// One explainer, several threads, each its own class: every result must be that of a lone run, to the bit.
std::string explain_in_threads(Arguments &&a) {
    const fc::Explainer &opener = explainer(a.word());
    const fc::Photo photo = a.photo();
    const auto classes = static_cast<std::int64_t>(opener.manifest().classes);
    std::vector<fc::Explanation> alone;
    for (std::int64_t c = 0; c < classes; ++c) {
        alone.push_back(opener.explain(photo, c));
    }
    std::atomic<int> equal{0};
    std::vector<std::thread> threads;
    for (std::int64_t t = 0; t < 8; ++t) {
        threads.emplace_back([&, t] {
            for (std::int64_t i = 0; i < 10; ++i) {
                const auto c = static_cast<std::size_t>((t + i) % classes);
                const fc::Explanation e = opener.explain(photo, static_cast<std::int64_t>(c));
                bool same = e.logits == alone[c].logits && e.label == alone[c].label;
                for (const auto &[method, saliency] : e.maps) {
                    same = same && saliency.values == alone[c].map(method).values;
                }
                equal += same;
            }
        });
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
    return std::to_string(equal) + " of 80 equal";
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

const std::map<std::string, std::string (*)(Arguments &&)> COMMANDS{
    {"open", open_bundle},
    {"input", explain_input},
    {"photo", explain_photo},
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

int main() {
    std::locale::global(std::locale(std::locale::classic(), new German));
    for (std::string line; std::getline(std::cin, line);) {
        const std::size_t tab = line.find('\t');
        try {
            Arguments arguments{std::istringstream(tab == std::string::npos ? "" : line.substr(tab + 1))};
            const std::string answer = COMMANDS.at(line.substr(0, tab))(std::move(arguments));
            std::cout << "ok " << answer << std::endl;
        } catch (const fc::Error &error) {
            std::cout << kind_of(error) << ": " << error.what() << std::endl;
        }
    }
}
