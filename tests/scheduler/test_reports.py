"""Status reports that wait for the log, against a second version that looks through all of them."""

from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.changes import NodeReport, Report, Verdict
from essaim.cluster.node import NodeStatus
from essaim.cluster.task import TaskState, TaskStatus
from essaim.scheduler.dispatch.reports import AnyReport, Pending

STATES = (TaskState.ACCEPTED, TaskState.STARTING, TaskState.RUNNING, TaskState.FAILED)
tasks, nodes = st.sampled_from(["t1", "t2"]), st.sampled_from(["n1", "n2"])
statuses = st.builds(
    lambda state, message: TaskStatus(state=state.label, message=message),
    st.sampled_from(STATES),
    st.sampled_from("ab"),
)
anything = st.one_of(
    st.builds(Report, tasks, nodes, statuses),
    st.builds(Report, tasks, nodes, statuses),
    st.builds(Verdict, tasks, nodes, st.booleans()),
    st.builds(lambda node, state: NodeReport(node, NodeStatus(state=state)), nodes, st.sampled_from(["ready", "down"])),
)
turns = st.tuples(st.integers(0, 4), st.lists(anything, max_size=4))
"""How many go into a proposal, and what comes in while it is under way."""


class Naive:
    def __init__(self) -> None:
        self.reports: list[AnyReport] = []

    def add(self, report: AnyReport) -> None:
        if isinstance(report, Report) and any(
            (other.task_id, other.node_id) == (report.task_id, report.node_id)
            and other.status.progress > report.status.progress
            for other in self.reports
            if isinstance(other, Report)
        ):
            return
        self.reports = [other for other in self.reports if not self._same(other, report)]
        self.reports.append(report)

    @staticmethod
    def _same(one: AnyReport, other: AnyReport) -> bool:
        if isinstance(one, NodeReport) or isinstance(other, NodeReport):
            return type(one) is type(other) and one.node_id == other.node_id
        if type(one) is not type(other) or (one.task_id, one.node_id) != (other.task_id, other.node_id):
            return False
        return not (isinstance(one, Report) and isinstance(other, Report)) or one.status.state == other.status.state

    def written(self, reports: list[AnyReport]) -> None:
        self.reports = [report for report in self.reports if not any(report is one for one in reports)]


@given(st.lists(turns, max_size=8))
def test_pending_reports_are_those_of_a_version_that_looks_through_all(
    history: list[tuple[int, list[AnyReport]]],
) -> None:
    pending, naive = Pending(), Naive()
    for count, coming in history:
        batch, expected = pending.first(count), naive.reports[:count]
        for report in coming:
            pending.add(report)
            naive.add(report)
        pending.written(batch)
        naive.written(expected)
        assert pending.first(100) == naive.reports


def test_pending_report_of_an_earlier_state_is_taken_once_the_later_one_is_written() -> None:
    """As after a later state of which the store took no notice; nothing of the task waits any more."""
    pending = Pending()
    running, starting = (Report("t1", "n1", TaskStatus(state=state)) for state in ("running", "starting"))
    pending.add(running)
    pending.add(starting)
    assert pending.first(10) == [running]
    pending.written([running])
    pending.add(starting)
    assert pending.first(10) == [starting]
    pending.clear()
    pending.add(starting)
    assert pending.first(10) == [starting]
