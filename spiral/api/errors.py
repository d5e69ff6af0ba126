"""The errors a user can cause; each is one sentence: what was asked, what exists, what to do."""


class SpiralError(Exception):
    """A fault of the user's input or set-up. The command line prints it without a traceback and exits `exit_code`."""

    exit_code = 2


class PluginError(SpiralError):
    """A plug-in is missing, broken, named twice, or was given arguments that it does not take."""


class ConfigError(SpiralError):
    """A configuration has an unknown key, a value of the wrong type, or asks for something unsound."""


class RunError(SpiralError):
    """A run directory is missing, half written, or belongs to something else; or a run cannot go on."""


class Stopped(SpiralError):
    """A run was stopped by a signal; `exit_code` is 128 and the signal's number, as in shells."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class PromptTooLong(SpiralError):
    """A prompt leaves less room in the model's context than the longest reply that may be asked for."""
