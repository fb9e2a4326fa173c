"""Every command, with all of its options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from asr.config.arcs import ARCS, ArcOptions
from asr.config.data import DataOptions
from asr.config.decode import SEARCHES, DecodeOptions, GreedyOptions
from asr.config.loss import LOSSES, FullLossOptions, LossOptions
from asr.config.model import ModelOptions
from asr.config.train import OptimOptions, TrainOptions
from asr.options import MISSING, option, path_option

SCHEDULER = "tcp://HOST:PORT of a Dask scheduler, whose workers, on any machine, do the work instead"
CHECKPOINT = (
    "best, last, average (of the last train.average_last), ema, or the name of one checkpoint; auto: what did best in "
    "validation of best, average and ema once the training is done, and until then best"
)


def unit_option() -> str:
    """The option of every command that counts errors."""
    counted = "what errors are counted in: words (WER) or characters (CER); auto: characters where references are of a "
    return option("auto", counted + "script without blanks, as Chinese, else words", choices=("auto", "word", "char"))


def normalize_option() -> str:
    """The option of commands that score."""
    what = "what is no error: none: texts count as they are; basic: case, punctuation, forms of Unicode; english: what "
    more = "Whisper's evaluations ignore, also numbers, contractions and British spelling (pip install '.[score]')"
    return option("none", what + more, choices=("none", "basic", "english"))  # type: ignore[no-any-return]


BY = "duration, speaker, or any other field of the supervisions, or several, as in by=speaker,gender: error rates by it"


def case_option(texts: str) -> str:
    """The option of commands that take text in one case or another."""
    return option("keep", f"letters of the {texts}", choices=("keep", "lower", "upper"))  # type: ignore[no-any-return]


def punctuation_option() -> str:
    """The option of commands that take text with punctuation or without."""
    what = "remove: replaced by blanks, but for apostrophes and hyphens inside of words"
    return option("keep", what, choices=("keep", "remove"))  # type: ignore[no-any-return]


TRAINED = "aligner=ctc or transducer"  # which have a model
TIMED_FORMS = ("stm", "ctm", "rttm", "srt", "vtt")  # of corpora: long recordings and times of what is said

# Sections whose class depends on their `name`.
VARIANTS: dict[type, dict[str, Any]] = {LossOptions: LOSSES, ArcOptions: ARCS, DecodeOptions: SEARCHES}


@dataclass
class TrainConfig:
    """`asr train`: train a transducer, or go on with a run that was interrupted."""

    run: str = path_option(MISSING, "directory of this run: config, checkpoints, logs, TensorBoard")
    model: ModelOptions = field(default_factory=ModelOptions)
    loss: LossOptions = field(default_factory=FullLossOptions)
    data: DataOptions = field(default_factory=DataOptions)
    optim: OptimOptions = field(default_factory=OptimOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    decode: DecodeOptions = field(default_factory=GreedyOptions)
    unit: str = unit_option()
    replay: str = path_option("", "file of the run's bad-batches/: compute its loss and gradient, and train nothing")

    @property
    def views(self) -> int:
        """How often a training batch has each utterance, differently augmented."""
        return 2 if self.loss.consistency or self.train.ctc_consistency else 1


@dataclass
class PreflightConfig(TrainConfig):
    """`asr preflight`: measure the memory of training, and try the largest batch that will occur in an epoch."""

    run: str = path_option("", "not used: the options of a training will do")


@dataclass
class ValidateConfig(TrainConfig):
    """`asr validate`: find all that is wrong with manifests and their audio, before a training does."""

    run: str = path_option("", "not used: the options of a training will do")
    cuts: list[str] = path_option([], "more manifests, each a part of its own, as test sets are")
    audio: bool = option(True, "read all audio, too; false: rows, times and transcripts alone")
    jobs: int = option(2, "processes that read audio; 0: this one", low=0, high=1000)
    fix: str = path_option(
        "",
        "where to write what is sound: NAME.jsonl.gz, or of several manifests a directory for as many of their names",
    )


@dataclass
class DecodeConfig:
    """`asr decode`: decode a CutSet with a trained model, and score it."""

    run: str = path_option(MISSING, "run directory of `asr train`, or package")
    cuts: str = path_option(MISSING, "Lhotse manifest to decode")
    output: str = path_option(
        MISSING, "directory for hypotheses and error reports; what is done is kept there until all is"
    )
    checkpoint: str = option("auto", CHECKPOINT)
    name: str = option("", "name in the line of the error rate; default: the manifest's")
    unit: str = unit_option()
    normalize: str = normalize_option()
    by: str = option("", BY)
    nbest: int = option(1, "hypotheses of each utterance in nbest.jsonl; 1: no such file", low=1)
    streaming: bool = option(False, "read every utterance chunk by chunk, as if it were just being said")
    device: str = option("auto", "where to decode", choices=("auto", "cpu", "cuda"))
    decode: DecodeOptions = field(default_factory=GreedyOptions)


@dataclass
class TranscribeConfig:
    """`asr transcribe FILE...`: print the text of audio files."""

    run: str = path_option(MISSING, "run directory of `asr train`, or package")
    files: list[str] = path_option([], "audio files, directories of such, or - for standard input")
    format: str = option(
        "text",
        "what to print: text, subtitles, times of words, or everything",
        choices=("text", "srt", "vtt", "ctm", "json"),
    )
    output: str = path_option("", "directory for one file FILE.FORMAT each, written when it is done; default: print")
    piece_seconds: float | None = option(
        None,
        "longer recordings are read in pieces, cut at pauses; default: what 99 % of the training utterances are within",
        low=1,
        only_with="streaming=false",
    )
    streaming: bool = option(False, "print words as they are recognised")
    checkpoint: str = option("auto", CHECKPOINT)
    device: str = option("auto", "where to decode", choices=("auto", "cpu", "cuda"))
    decode: DecodeOptions = field(default_factory=GreedyOptions)


@dataclass
class ScoreConfig:
    """`asr score`: error rate of a hypotheses file, with readable reports."""

    hypotheses: str = path_option(
        MISSING,
        "hypotheses.jsonl, one {id, reference, hypothesis} per line; or, with reference=, what `asr transcribe` wrote "
        "as text or json: a file, or its output directory",
    )
    reference: str = path_option("", "what was said: a text file, or a folder with NAME.txt for each NAME transcribed")
    cuts: str = path_option("", "Lhotse manifest with the times of the words, for emission delays, or for by=")
    output: str = path_option(MISSING, "directory for the reports")
    name: str = option("", "name in the line of the error rate; default: the file's directory")
    unit: str = unit_option()
    normalize: str = normalize_option()
    by: str = option("", BY, only_with="cuts")


@dataclass
class PlotConfig:
    """`asr plot`: draw an utterance's `lattice`, or the nodes of a `batch` that each loss computes on."""

    run: str = path_option(MISSING, "run directory of `asr train`, or package")
    cuts: str = path_option(MISSING, "Lhotse manifest that holds the utterance")
    output: str = path_option(MISSING, "PNG file to write")
    pictures: list[str] = option([], "what to draw", choices=("lattice", "batch"))
    utterance: str = option("", "id of the utterance, or of a batch's first; default: the manifest's first")
    utterances: Optional[int] = option(None, "how many a batch has; default: 6", low=1, high=30)
    left_frames: int = option(5, "width of the alignment band before a label's frame", low=0)
    right_frames: int = option(10, "width of the alignment band after a label's frame", low=0)
    prune_range: int = option(5, "label positions that pruning keeps per frame", low=2)
    checkpoint: str = option("auto", CHECKPOINT)
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda"))


@dataclass
class ExportConfig:
    """`asr export`: a trained model in files that other runtimes run, compared with it on real audio."""

    run: str = path_option(MISSING, "run directory of `asr train`, or package")
    output: str = path_option(MISSING, "directory for the files")
    format: str = option("onnx", "onnx: for sherpa-onnx; torch: programs of torch.export", choices=("onnx", "torch"))
    streaming: bool = option(False, "an encoder that reads chunk by chunk, of a causal model")
    chunk_seconds: Optional[float] = option(
        None, "chunks that a causal encoder's attention works in, seconds; 0: none; null: as in training", low=0
    )
    left_context: Optional[int] = option(
        None,
        "frames that a streaming encoder keeps of what it has read; null: model.left_context",
        low=0,
        only_with="streaming=true",
    )
    int8: Optional[bool] = option(
        None,
        "int8 weights as well (format=onnx); null: unless they change over 2 % of the labels; true: or else refuse",
    )
    cuts: str = path_option("", "manifest whose audio the files are checked with; default: the run's data.valid_cuts")
    utterances: int = option(20, "how many of its first utterances", low=1)
    checkpoint: str = option("auto", CHECKPOINT)


@dataclass
class PackageConfig:
    """`asr package`: a trained model as one directory or zip file, with all that it takes to use it elsewhere."""

    run: str = path_option(MISSING, "run directory of `asr train`")
    output: str = path_option(MISSING, "directory to make, or zip file, NAME.zip; a package that is there is replaced")
    checkpoint: str = option("auto", CHECKPOINT)
    exports: list[str] = path_option(
        [], "directories of `asr export` to put in; default: those in the run's directory that are of these weights"
    )
    name: str = option("", "what the model is called in its card; default: as the run's directory")
    corpus: str = option("", "what it was trained on, in words for its card; default: names and size of the manifests")
    licence: str = option("", "of the data, and of the model, in words for its card")


@dataclass
class CompareConfig:
    """`asr compare RUN...`: a table of runs, with the options they differ in, or of decodings, the best first."""

    runs: list[str] = path_option([], "run directories of `asr train`; or output directories of `asr decode`")
    paths: bool = option(False, "also show options that are paths, such as data.train_cuts, where they differ")


@dataclass
class ReportConfig:
    """`asr report RUN...`: a page of runs: what was trained, curves, error rates, and utterances to see and hear."""

    runs: list[str] = path_option([], "run directories of `asr train`, with what was decoded into them")
    output: str = path_option(MISSING, "HTML file to write, which needs no other")
    cuts: list[str] = path_option([], "Lhotse manifests with the audio of what was decoded; default: those that were")
    examples: int = option(4, "utterances of each kind to hear: the worst, the best, and others", low=0, high=1000)
    audio_mb: float = option(5.0, "megabytes of the page that sound may take", low=0, high=1000)
    lattices: int = option(2, "of how many runs, the best ones, an utterance's lattice is drawn", low=0, high=100)
    utterances: int = option(
        5000, "of a decoding that are listed; of more, half have most errors and half are drawn at random", low=0
    )
    checkpoint: str = option("auto", CHECKPOINT)
    device: str = option("auto", "where lattices are computed", choices=("auto", "cpu", "cuda"))


@dataclass
class AlignConfig:
    """`asr align`: find out when each word of the transcripts was said."""

    aligner: str = option(
        MISSING,
        "pocketsphinx: an English HMM model; ctc, transducer: a trained model, named by run=",
        choices=("pocketsphinx", "ctc", "transducer"),
    )
    cuts: str = path_option(MISSING, "Lhotse manifest to align")
    output: str = path_option(MISSING, "CTM file to write; what is done is kept beside it until all is")
    run: str = path_option(
        "", "run directory of `asr train`, or package, for aligner=ctc and transducer", only_with=TRAINED
    )
    checkpoint: str = option("auto", CHECKPOINT, only_with=TRAINED)
    device: str = option("auto", "where the trained model runs", choices=("auto", "cpu", "cuda"), only_with=TRAINED)
    jobs: int = option(2, "processes on this machine", low=1, high=1000)
    scheduler: str = option("", SCHEDULER)


@dataclass
class AttachConfig:
    """`asr attach`: put times of words onto a CutSet, for alignment-restricted losses and for delays."""

    words: str = path_option(
        MISSING, "file with times of words, or a directory of such: CTM, TextGrid, .alignment.txt, Lhotse"
    )
    cuts: str = path_option(MISSING, "Lhotse manifest to read")
    output: str = path_option(MISSING, "Lhotse manifest to write; OUTPUT.coverage.txt names every fault")


@dataclass
class SegmentConfig:
    """`asr segment`: cut long recordings into utterances, at pauses between words whose times are known."""

    cuts: str = path_option(MISSING, "Lhotse manifest with times of words, of `asr attach`")
    output: str = path_option(MISSING, "Lhotse manifest to write; the audio stays where it is")
    max_seconds: float = option(20.0, "length of an utterance at most", low=1)
    min_pause: float = option(0.3, "seconds of a pause in which a cut may be made, at least", low=0)


@dataclass
class SpliceConfig:
    """`asr splice`: make new utterances from the words of others, cut out by their times."""

    cuts: str = path_option(MISSING, "Lhotse manifest with times of words")
    output: str = path_option(MISSING, "Lhotse manifest to write")
    audio: str = path_option(MISSING, "directory for the audio of the new utterances")
    count: int = option(1000, "new utterances", low=1)
    shortest: int = option(3, "words in a new utterance at least", low=1)
    longest: int = option(8, "words in a new utterance at most", low=1)
    together: int = option(1, "words in a row, at most, that are taken from an utterance as they were said", low=1)
    edge_seconds: float = option(0.3, "audio that the first and the last word of an utterance keep outside", low=0)
    seed: int = option(0, "seed of the choice of words", low=0, high=2**63 - 1)


@dataclass
class ManifestConfig:
    """`asr manifest`: make a manifest of a corpus in the form that it lies in."""

    input: str = path_option(
        MISSING,
        "folder of audio with NAME.txt beside each, table, list, JSON lines, Kaldi directory, … (docs/corpus.md)",
    )
    output: str = path_option(
        MISSING, "Lhotse manifest to write, NAME.jsonl.gz; NAME.jsonl.gz.faults.txt names every fault"
    )
    form: str = option(
        "auto",
        "what the input is; auto: found from it",
        choices=("auto", "folder", "table", "jsonl", "kaldi", "ljspeech", "list", "lhotse", "audacity", *TIMED_FORMS),
    )
    audio_dir: str = path_option(
        "", "directory that names of audio files count from; default: the input's, clips/, wavs/, …"
    )
    audio_column: str = option("", "column, or field, with the audio's name; default: path, audio_filepath, …")
    text_column: str = option("", "column, or field, with the transcript; default: text, sentence, transcript, …")
    speaker_column: str = option("", "column, or field, with the speaker; default: speaker, client_id, …")
    case: str = case_option("transcripts")
    punctuation: str = punctuation_option()
    split: str = option(
        "", "parts with speakers of their own, and their shares: dev:0.05,test:0.05; the rest is NAME_train.jsonl.gz"
    )
    seed: int = option(0, "seed of the choice of what goes into them", low=0, high=2**63 - 1, only_with="split")
    jobs: int = option(4, "audio files that are opened at a time", low=1, high=1000)


@dataclass
class TokenizerConfig:
    """`asr tokenizer`: train a SentencePiece tokenizer on the transcripts of manifests."""

    cuts: list[str] = path_option(
        [], "Lhotse manifests whose transcripts to train on; `asr manifest` makes them", needed=True
    )
    output: str = path_option(MISSING, "directory for the tokenizer")
    kind: str = option(
        "bpe", "units; unigram: pieces with probabilities, for data.sample_pieces", choices=("bpe", "unigram", "char")
    )
    vocab_size: Optional[int] = option(None, "pieces, blank and <unk> included; char: all characters", low=3)


@dataclass
class LmConfig:
    """`asr lm`: train an n-gram language model of pieces or words, to add to a search."""

    cuts: list[str] = path_option([], "Lhotse manifests whose transcripts to train on")
    text: str = path_option("", "text file to train on, too, or instead: a sentence a line, plain or .gz")
    tokenizer: str = path_option(MISSING, "directory made by `asr tokenizer`: the transducer's")
    output: str = path_option(MISSING, "ARPA file to write, .arpa or .arpa.gz")
    units: str = option(
        "pieces",
        "of what: the tokenizer's pieces, for decode.lm, or words, for decode.word_lm",
        choices=("pieces", "words"),
    )
    order: Optional[int] = option(None, "length of the longest n-grams; null: 6 pieces, 3 words", low=1, high=100)
    word_list: str = path_option("", "file for the words of the text, too, one a line, for decode.word_list")
    held_out: list[str] = path_option([], "Lhotse manifests to tell the perplexity of")
    case: str = case_option("text, and of the transcripts")
    punctuation: str = punctuation_option()


@dataclass
class FeaturesConfig:
    """`asr features`: compute filterbanks once and write a manifest that points to them."""

    cuts: str = path_option(MISSING, "Lhotse manifest to read")
    output: str = path_option(MISSING, "Lhotse manifest to write")
    storage: str = path_option(MISSING, "directory for the features; those of an earlier manifest OUTPUT are replaced")
    mel_bins: int = option(80, "bins of the filterbank", low=8)
    speed_factors: list[float] = option(
        [], "also store a copy of every utterance at each of these speeds", low=0.5, high=2
    )
    jobs: int = option(2, "processes on this machine", low=1, high=1000)
    scheduler: str = option("", SCHEDULER)


@dataclass
class SharConfig:
    """`asr shar`: pack cuts with their audio or features into tar files that are read from front to back."""

    cuts: str = path_option(MISSING, "Lhotse manifest to read")
    output: str = path_option(
        MISSING, "directory to write, to be named where a manifest is wanted; replaced when all is done"
    )
    shard_size: int = option(1000, "utterances in a tar file", low=1)
    audio: str = option("flac", "format of the audio, 16 bits a sample", choices=("flac", "wav"))
    jobs: int = option(2, "processes on this machine", low=1, high=1000)
    scheduler: str = option("", SCHEDULER)


COMMANDS: dict[str, type] = {
    "manifest": ManifestConfig,
    "tokenizer": TokenizerConfig,
    "lm": LmConfig,
    "align": AlignConfig,
    "attach": AttachConfig,
    "segment": SegmentConfig,
    "splice": SpliceConfig,
    "features": FeaturesConfig,
    "shar": SharConfig,
    "validate": ValidateConfig,
    "preflight": PreflightConfig,
    "train": TrainConfig,
    "decode": DecodeConfig,
    "transcribe": TranscribeConfig,
    "plot": PlotConfig,
    "export": ExportConfig,
    "package": PackageConfig,
    "score": ScoreConfig,
    "compare": CompareConfig,
    "report": ReportConfig,
}
