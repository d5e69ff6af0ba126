"""The errors a user can cause; each is one sentence: what was asked, what exists, what to do."""


class SpiralError(Exception):
    """A fault of the user's input or set-up. The command line prints it without a traceback and exits 2."""


class PluginError(SpiralError):
    """A plug-in is missing, broken, named twice, or was given arguments that it does not take."""


class ConfigError(SpiralError):
    """A configuration has an unknown key, a value of the wrong type, or asks for something unsound."""


class RunError(SpiralError):
    """A run directory is missing, half written, or belongs to something else; or a run cannot go on."""


class PromptTooLong(SpiralError):
    """A prompt leaves no room for a reply in the model's context."""


class IllegalMove(Exception):
    """Raised by `Game.play` for a move the rules forbid; the game must be left exactly as it was.

    The message is the reason, shown to a person who plays: "square 4 is taken".
    """


class Unavailable(Exception):
    """Somebody outside this process who was asked for a move gave none: the match is voided, and is nobody's fault.

    `cause` is a word or two that such failures are counted by, such as `timeout` or `http 429`.
    """

    def __init__(self, cause: str, detail: str = "") -> None:
        super().__init__(f"{cause}: {detail}" if detail else cause)
        self.cause = cause
