"""What a simulation is to do, read out of what somebody asked for, maybe long ago."""

from faultlane_server.runs.digest import digest_of
from faultlane_server.runs.errors import ModelChanged
from faultlane_server.runs.job import Job
from faultlane_server.scenario import Scenario


def scenario_of(job: Job, model_version: int) -> Scenario:
    """Return the scenario, if this version of the model makes of it what was asked for.

    Raises
    ------
    ModelChanged
        If it was asked of an earlier version of the server, and means something else to this one.
    """
    simulation = job.simulation
    if simulation.model_version != model_version:
        raise ModelChanged(
            f"it was begun by version {simulation.model_version} of the model,"
            f" and this server has version {model_version}: ask for it again"
        )
    try:
        scenario = job.scenario()
    except Exception as error:
        raise ModelChanged(f"the scenario is not understood any more: {error}") from error
    if digest_of(scenario, model_version) != simulation.digest:
        raise ModelChanged("the scenario means something else to this server: ask for it again")
    return scenario
