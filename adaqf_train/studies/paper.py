"""Every table of the AdaQF paper, as data, each row with where its figures come from.

The figures are the paper's, errors included: its R-Precision exceeds that of real motions (.797 on HumanML3D), several
of its checkpoints were chosen by test FID (Tables 5 and 6), and its skating ratio is GMD's, without a length mask. They
were taken with the official evaluators on full-size data: figures of pocket-size runs are not comparable with them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from adaqf_train.errors import PaperError

R = ("r_precision_1", "r_precision_2", "r_precision_3")
GENERATION = (*R, "fid", "mm_dist", "multimodality")
RECALLS = ("r1", "r2", "r3", "r5", "r10")
RETRIEVAL = (*(f"text_to_motion_{r}" for r in RECALLS), *(f"motion_to_text_{r}" for r in RECALLS))
ABLATION = ("fid", "r_precision_3", "skating")


@dataclass(frozen=True)
class PaperRow:
    method: str
    source: str  # whose figures they are
    cells: dict[str, dict[str, float | None]]  # {metric: {"mean", "ci95"}}; ci95 None where none is printed


@dataclass(frozen=True)
class PaperTable:
    number: int
    title: str
    dataset: str
    metrics: tuple[str, ...]
    rows: tuple[PaperRow, ...]


def _table(
    number: int, title: str, dataset: str, metrics: tuple[str, ...], text: str, percent: bool = False
) -> PaperTable:
    """text: a row a line, "method | source | cell cell …", a cell mean±ci, mean, or - for nothing printed."""
    rows = []
    for line in text.strip().splitlines():
        method, source, cells = (part.strip() for part in line.split("|"))
        parsed = {}
        for metric, cell in zip(metrics, cells.split(), strict=True):
            if cell == "-":
                continue
            found = re.fullmatch(r"([\d.]+)(?:±([\d.]+))?", cell)
            mean, ci = (float(value) / (100 if percent else 1) if value else None for value in found.groups())
            parsed[metric] = {"mean": mean, "ci95": ci}
        rows.append(PaperRow(method, source, parsed))
    return PaperTable(number, title, dataset, metrics, tuple(rows))


TABLES = (
    _table(
        1,
        "Quantitative results",
        "HumanML3D",
        GENERATION,
        """
        T2M            | Guo et al. 2022               | .455±.003 .636±.003 .736±.002 1.087±.021 3.347±.008 2.219±.074
        T2M-GPT        | Zhang et al. 2023a            | .492±.003 .679±.002 .775±.002 .141±.005 3.121±.009 1.831±.048
        MMM            | Pinyoanunatapong et al. 2023  | .504±.003 .696±.003 .794±.002 .080±.003 2.998±.007 1.164±.041
        MoMask         | Guo et al. 2024               | .521±.002 .713±.002 .807±.002 .045±.002 2.958±.008 1.241±.040
        BAMM           | Pinyoanunatapong et al. 2024  | .525±.002 .720±.003 .814±.003 .055±.002 2.919±.008 1.687±.051
        KinMo          | Zhang et al. 2025             | .529±.003 .722±.002 .817±.002 .050±.003 2.907±.009 1.313±.041
        MoMask+MoCLIP  | Maldonado et al. 2025         | .533±.003 .730±.002 .823±.001 .047±.002 2.868±.006 1.242±.040
        HGM3           | Jeong et al. 2025             | .535±.002 .726±.002 .822±.002 .036±.002 2.904±.008 1.206±.051
        MoMask+DisCoRD | Cho et al. 2025               | .524±.003 .715±.003 .809±.002 .032±.002 2.938±.010 1.288±.043
        LAMP           | Li et al. 2025                | .557±.003 .751±.002 .843±.001 .032±.002 2.759±.007 -
        MotionDiffuse  | Zhang et al. 2024a            | .491±.001 .681±.001 .782±.001 .630±.001 3.113±.001 -
        MDM            | Tevet et al. 2023             | .455±.006 .645±.007 .749±.006 .489±.047 3.330±.025 2.290±.070
        MLD            | Chen et al. 2023              | .481±.003 .673±.003 .772±.002 .473±.013 3.196±.010 2.413±.079
        ReMoDiffuse    | Zhang et al. 2023b            | .510±.005 .698±.006 .795±.004 .103±.004 2.974±.016 1.795±.043
        StableMoFusion | Huang et al. 2024a            | .553±.003 .748±.002 .841±.002 .098±.003 - 1.774±.051
        SALAD          | Hong et al. 2025              | .581±.003 .769±.003 .857±.002 .076±.002 2.649±.009 1.751±.062
        AdaQF          | the paper                     | .627±.004 .811±.003 .888±.002 .039±.001 2.382±.010 1.184±.042
        """,
    ),
    _table(
        2,
        "Quantitative results",
        "KIT-ML",
        GENERATION,
        """
        T2M            | Guo et al. 2022               | .361±.005 .559±.007 .681±.007 3.022±.107 3.488±.028 2.052±.107
        T2M-GPT        | Zhang et al. 2023a            | .416±.006 .627±.006 .745±.006 .514±.029 3.007±.023 1.570±.039
        MMM            | Pinyoanunatapong et al. 2023  | .404±.005 .621±.004 .744±.004 .316±.028 2.977±.019 1.232±.032
        MoMask         | Guo et al. 2024               | .433±.007 .656±.005 .781±.005 .204±.011 2.779±.022 1.131±.043
        BAMM           | Pinyoanunatapong et al. 2024  | .438±.009 .661±.009 .788±.005 .183±.013 2.723±.026 1.609±.065
        HGM3           | Jeong et al. 2025             | .444±.007 .664±.007 .791±.006 .176±.010 2.710±.019 1.152±.041
        MoMask+DisCoRD | Cho et al. 2025               | .434±.007 .657±.005 .775±.004 .169±.010 2.792±.015 1.266±.046
        LAMP           | Li et al. 2025                | .479±.006 .691±.005 .826±.005 .141±.013 2.704±.018 -
        MotionDiffuse  | Zhang et al. 2024a            | .417±.004 .621±.004 .739±.004 1.954±.062 2.958±.005 .730±.013
        MDM            | Tevet et al. 2023             | .471±.004 .657±.004 .765±.004 .322±.018 2.802±.022 -
        MLD            | Chen et al. 2023              | .390±.008 .609±.008 .734±.007 .404±.027 3.204±.027 2.192±.071
        ReMoDiffuse    | Zhang et al. 2023b            | .427±.014 .641±.004 .765±.055 .155±.006 2.814±.012 1.239±.028
        StableMoFusion | Huang et al. 2024a            | .445±.006 .660±.005 .782±.004 .258±.029 - 1.362±.062
        SALAD          | Hong et al. 2025              | .477±.006 .711±.005 .828±.005 .296±.012 2.585±.016 1.004±.040
        AdaQF          | the paper                     | .494±.005 .727±.005 .846±.005 .161±.010 2.513±.018 1.631±.062
        """,
    ),
    _table(
        3,
        "Transferability",
        "HumanML3D",
        GENERATION,
        """
        MDM             | Tevet et al. 2023     | .455±.006 .645±.007 .749±.006 .489±.047 3.330±.025 2.290±.070
        MoMask          | Guo et al. 2024       | .521±.002 .713±.002 .807±.002 .045±.002 2.958±.008 1.241±.040
        MoMask+MoCLIP   | Maldonado et al. 2025 | .533±.003 .730±.002 .823±.001 .047±.002 2.868±.006 1.242±.040
        SALAD           | Hong et al. 2025      | .581±.003 .769±.003 .857±.002 .076±.002 2.649±.009 1.751±.062
        MDM+AdaCLIP     | the paper             | .573±.003 .752±.004 .838±.005 .149±.005 2.737±.013 1.083±.052
        MoMask+AdaCLIP  | the paper             | .554±.003 .751±.002 .842±.003 .040±.002 2.771±.009 1.165±.044
        SALAD+AdaCLIP   | the paper             | .590±.003 .779±.002 .864±.001 .061±.003 2.625±.007 1.400±.056
        """,
    ),
    _table(
        4,
        "Components",
        "HumanML3D",
        ABLATION,
        """
        MDM (baseline)                | Tevet et al. 2023 | .489±.047 .749±.006 .095±.0009
        with consistency constraints  | the paper         | .098±.002 .838±.002 .069±.0008
        with LoRA tuning              | the paper         | .566±.004 .802±.002 .107±.0007
        full model                    | the paper         | .039±.001 .888±.002 .061±.0007
        with full tuning              | the paper         | .073±.002 .873±.002 .063±.0007
        """,
    ),
    _table(
        5,
        "Feedback weights, at the lowest test FID",
        "HumanML3D",
        ABLATION,
        """
        MDM (baseline)  | the paper | .357 .712 .096
        λ_M=1, λ_T=1    | the paper | .099 .917 .225
        λ_M=3, λ_T=1    | the paper | .047 .905 .227
        λ_M=5, λ_T=1    | the paper | .048 .893 .064
        λ_M=10, λ_T=1   | the paper | .052 .867 .055
        λ_M=10, λ_T=2   | the paper | .039 .900 .062
        λ_M=10, λ_T=3   | the paper | .054 .905 .135
        λ_M=10, λ_T=5   | the paper | .081 .927 .208
        """,
    ),
    _table(
        6,
        "Few training samples, at the lowest test FID",
        "HumanML3D",
        ABLATION,
        """
        MDM-2000    | the paper | .176 .696 .104
        AdaQF-500   | the paper | .320 .809 .179
        AdaQF-1000  | the paper | .278 .842 .140
        AdaQF-2000  | the paper | .148 .866 .111
        """,
    ),
    _table(
        7,
        "Whose extractors give the feedback",
        "HumanML3D",
        GENERATION[:-1],
        """
        ours                      | the paper | .627±.004 .811±.003 .888±.002 .039±.001 2.382±.010
        T2M's evaluators          | the paper | .611±.003 .803±.002 .871±.001 .103±.003 2.407±.011
        """,
    ),
    # Pools of 32. Its ± of "Ours" are printed as fractions beside percentages, and so are left out here.
    _table(
        8,
        "Retrieval",
        "HumanML3D",
        RETRIEVAL,
        """
        TEMOS | Petrovich et al. 2022 | 42.40 53.52 61.14 70.96 84.15 39.96 53.49 61.79 72.40 85.89
        T2M   | Guo et al. 2022       | 52.48 71.05 80.65 89.66 96.58 52.00 71.21 81.11 89.87 96.78
        TMR   | Petrovich et al. 2023 | 67.16 81.32 86.81 91.43 95.36 67.97 81.20 86.35 91.70 95.27
        LAMP  | Li et al. 2025 | 67.18±.5 81.9±.4 87.04±.3 92.0±.2 95.73±.2 68.02±.3 82.1±.3 87.5±.3 92.2±.3 96.9±.3
        ours  | the paper             | 69.15 84.43 90.21 94.89 98.35 69.0 84.77 90.52 95.26 98.74
        """,
        percent=True,
    ),
    _table(
        8,
        "Retrieval",
        "KIT-ML",
        RETRIEVAL,
        """
        TEMOS | Petrovich et al. 2022 | 43.88 58.25 67.00 74.00 84.75 41.88 55.88 65.62 75.25 85.75
        T2M   | Guo et al. 2022       | 42.25 62.62 75.12 87.50 96.12 39.75 62.75 73.62 86.88 95.88
        TMR   | Petrovich et al. 2023 | 49.25 69.75 78.25 87.88 95.00 50.12 67.12 76.88 88.88 94.75
        LAMP  | Li et al. 2025        | 52.5±.7 74.8±.5 84.7±.5 92.7±.3 97.6±.3 54.0 75.3±.5 84.4±.4 92.2±.2 97.6±.2
        ours  | the paper             | 51.33 73.13 83.62 92.96 98.04 52.54 74.16 84.73 93.57 98.68
        """,
        percent=True,
    ),
    _table(
        9,
        "Text encoders in MoMask, and its residual levels",
        "HumanML3D",
        GENERATION[:-1],
        """
        MoMask             | Guo et al. 2024       | .521±.002 .713±.002 .807±.002 .045±.002 2.958±.008
        MoMask+MoCLIP      | Maldonado et al. 2025 | .533±.003 .730±.002 .823±.001 .047±.002 2.868±.006
        MoMask+LAMP        | Li et al. 2025        | .550±.003 .741±.002 .834±.001 .042±.002 2.978±.006
        MoMask+AdaCLIP-R5  | the paper             | .554±.003 .751±.002 .842±.003 .040±.002 2.771±.009
        MoMask+AdaCLIP-R3  | the paper             | .546±.003 .740±.002 .831±.003 .042±.002 2.825±.009
        MoMask+AdaCLIP-R1  | the paper             | .537±.004 .733±.003 .827±.003 .041±.002 2.845±.009
        MoMask+AdaCLIP-R0  | the paper             | .526±.009 .721±.001 .815±.002 .047±.005 2.916±.006
        """,
    ),
)


def tables_of(number: int) -> tuple[PaperTable, ...]:
    """The tables of that number (Table 8 has one for each data set); PaperError when the paper has none."""
    found = tuple(table for table in TABLES if table.number == number)
    if not found:
        raise PaperError(f"The paper has no table {number} of results: choose 1 to 9.")
    return found
