"""The README of an export: how to run it, and in what it differs from `asr decode`."""

from __future__ import annotations

from collections.abc import Sequence

from asr.config import ExportConfig
from asr.export.sherpa import Form
from asr.runs.trained import Trained

OFFLINE = """
import sherpa_onnx, soundfile

recognizer = sherpa_onnx.OfflineRecognizer.from_transducer(
    encoder="encoder.onnx", decoder="decoder.onnx", joiner="joiner.onnx", tokens="tokens.txt"{feature_dim}
)
samples, rate = soundfile.read("audio.wav", dtype="float32")
stream = recognizer.create_stream()
stream.accept_waveform(rate, samples)
recognizer.decode_stream(stream)
print(stream.result.text)
"""

STREAMING = """
import numpy, sherpa_onnx, soundfile

recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(
    encoder="encoder.onnx", decoder="decoder.onnx", joiner="joiner.onnx", tokens="tokens.txt"{feature_dim}
)
samples, rate = soundfile.read("audio.wav", dtype="float32")
# The last chunk is decoded once it is whole. A file's end, played backwards, is what a microphone may hear then;
# in zeros a model may hear a word. Live, wait {tail:.2f} s before you end the stream.
samples = numpy.pad(samples, (0, int({tail:.2f} * rate)), mode="symmetric")
stream = recognizer.create_stream()
stream.accept_waveform(rate, samples)  # piece by piece, as they come
stream.input_finished()
while recognizer.is_ready(stream):
    recognizer.decode_stream(stream)
print(recognizer.get_result(stream))
"""

HOT_WORDS = """
Hot words are for `decoding_method="modified_beam_search"`: `hotwords_file="hotwords.txt"` (a phrase a line, written
as the transcripts are), `hotwords_score=1.5`, `modeling_unit="bpe"`, `bpe_vocab="bpe.vocab"`.
"""


def readme(config: ExportConfig, trained: Trained, form: Form, parity: Sequence[str]) -> str:
    """In Markdown."""
    kind = "a streaming" if form.streaming else "an offline"
    lines = [
        f"# {trained.checkpoint}, {kind} transducer",
        "",
        f"Exported by `asr export`. The weights are those whose digest is `{trained.digest or 'unknown'}`.",
        "Compared with the model on real audio:",
        "",
        *(f"- {line}" for line in parity),
        "",
    ]
    if config.format == "onnx":
        lines += run_in_sherpa(trained, form)
    else:
        lines += [
            "`torch.export.load(FILE).module()` gives each part back; `asr/export/modules.py` says what they take."
        ]
    return "\n".join(lines) + "\n"


def run_in_sherpa(trained: Trained, form: Form) -> list[str]:
    """How to run it in sherpa-onnx, and what differs there."""
    bins = trained.config.model.mel_bins
    code = (STREAMING if form.streaming else OFFLINE).format(
        feature_dim="" if bins == 80 else f", feature_dim={bins}", tail=form.timing.shift * form.chunk + 0.05
    )
    differs = [
        "- At most one label is emitted in a frame" + one_label(trained),
        "- Times are those of a frame's beginning: 0.035 s before those of `asr decode`.",
        "- Beam search is that of `asr decode decode=beam decode.as_icefall=true`, but for float rounding.",
    ]
    if form.streaming:
        differs.append("- After an endpoint the last labels stay as context; in `asr transcribe` they do not.")
    return [
        "## In sherpa-onnx",
        "",
        "```bash",
        "pip install sherpa-onnx soundfile",
        "```",
        "",
        f"```python{code}```",
        HOT_WORDS,
        "`*.int8.onnx` are the same with int8 weights, where they are there: give them in the others' place.",
        "",
        "What differs from `asr decode`:",
        "",
        *differs,
    ]


def one_label(trained: Trained) -> str:
    """What that changes for this model."""
    if trained.config.loss.topology == "regular":
        return "; trained with `loss.topology=regular`, the model may want more (decode.max_symbols_per_frame)."
    return f", as `loss.topology={trained.config.loss.topology}` has it."
