"""A Snakemake logger plugin that shows every stage of the pipeline as an MLflow run.

Found by its name; switched on by `logger: mlflow` in the profile. One process writes MLflow, the main Snakemake
process; jobs write files (`pipeline.core.runlog`) and import nothing of this.
"""

from snakemake_logger_plugin_mlflow.handler import LogHandler, LogHandlerSettings

__all__ = ["LogHandler", "LogHandlerSettings"]
