"""What rows may say, wherever they come from: manifests, corpora, alignments."""

LATEST_SECONDS = 1e6  # beyond which a time is a mistake
SHOWN_CHARACTERS = 40  # of a wrong value
AUDIO_ENDINGS = (  # of files that are taken for audio
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".sph", ".aiff", ".aif", ".aifc", ".au", ".caf", ".w64"),
    *(".rf64", ".m4a", ".aac", ".mp4", ".webm", ".wma"),  # which may be unreadable, and are named then, not passed over
)
