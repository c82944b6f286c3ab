"""Facts: tables of the world, asked in several wordings.

Rows are listed roughly from well known to obscure; the corpus of the embedded models mentions
the first rows more often than the last, as any corpus does, so that a model knows some and not
others. The evaluation asks all rows alike, in wordings the model has not seen.
"""

from __future__ import annotations

import math
from random import Random

from howsure.questions.quiz.skills import Item, one_of

_ELEMENTS = (
    "hydrogen H|helium He|lithium Li|beryllium Be|boron B|carbon C|nitrogen N|oxygen O|"
    "fluorine F|neon Ne|sodium Na|magnesium Mg|aluminium Al|silicon Si|phosphorus P|sulfur S|"
    "chlorine Cl|argon Ar|potassium K|calcium Ca|scandium Sc|titanium Ti|vanadium V|chromium Cr|"
    "manganese Mn|iron Fe|cobalt Co|nickel Ni|copper Cu|zinc Zn|gallium Ga|germanium Ge|"
    "arsenic As|selenium Se|bromine Br|krypton Kr|rubidium Rb|strontium Sr|yttrium Y|"
    "zirconium Zr|niobium Nb|molybdenum Mo|technetium Tc|ruthenium Ru|rhodium Rh|palladium Pd|"
    "silver Ag|cadmium Cd|indium In|tin Sn|antimony Sb|tellurium Te|iodine I|xenon Xe|"
    "caesium Cs|barium Ba|lanthanum La|cerium Ce|praseodymium Pr|neodymium Nd|promethium Pm|"
    "samarium Sm|europium Eu|gadolinium Gd|terbium Tb|dysprosium Dy|holmium Ho|erbium Er|"
    "thulium Tm|ytterbium Yb|lutetium Lu|hafnium Hf|tantalum Ta|tungsten W|rhenium Re|osmium Os|"
    "iridium Ir|platinum Pt|gold Au|mercury Hg|thallium Tl|lead Pb|bismuth Bi|polonium Po|"
    "astatine At|radon Rn|francium Fr|radium Ra|actinium Ac|thorium Th|protactinium Pa|"
    "uranium U|neptunium Np|plutonium Pu|americium Am|curium Cm"
)
ELEMENTS = tuple(tuple(row.split()) for row in _ELEMENTS.split("|"))

_COUNTRIES = (
    "France,Paris,Europe|Germany,Berlin,Europe|Italy,Rome,Europe|Spain,Madrid,Europe|"
    "Japan,Tokyo,Asia|China,Beijing,Asia|India,New Delhi,Asia|Russia,Moscow,Europe|"
    "Egypt,Cairo,Africa|Canada,Ottawa,North America|Mexico,Mexico City,North America|"
    "Australia,Canberra,Oceania|Argentina,Buenos Aires,South America|"
    "Brazil,Brasilia,South America|Greece,Athens,Europe|Portugal,Lisbon,Europe|"
    "Sweden,Stockholm,Europe|Norway,Oslo,Europe|Denmark,Copenhagen,Europe|"
    "Finland,Helsinki,Europe|Poland,Warsaw,Europe|Austria,Vienna,Europe|Ireland,Dublin,Europe|"
    "Belgium,Brussels,Europe|Turkey,Ankara,Asia|Iran,Tehran,Asia|Iraq,Baghdad,Asia|"
    "Thailand,Bangkok,Asia|Vietnam,Hanoi,Asia|South Korea,Seoul,Asia|Cuba,Havana,North America|"
    "Chile,Santiago,South America|Peru,Lima,South America|Colombia,Bogota,South America|"
    "Venezuela,Caracas,South America|Kenya,Nairobi,Africa|Nigeria,Abuja,Africa|"
    "Ethiopia,Addis Ababa,Africa|Morocco,Rabat,Africa|Ghana,Accra,Africa|"
    "New Zealand,Wellington,Oceania|Hungary,Budapest,Europe|Romania,Bucharest,Europe|"
    "Bulgaria,Sofia,Europe|Ukraine,Kyiv,Europe|Croatia,Zagreb,Europe|Serbia,Belgrade,Europe|"
    "Iceland,Reykjavik,Europe|Nepal,Kathmandu,Asia|Pakistan,Islamabad,Asia|"
    "Bangladesh,Dhaka,Asia|Indonesia,Jakarta,Asia|Malaysia,Kuala Lumpur,Asia|"
    "Philippines,Manila,Asia|Saudi Arabia,Riyadh,Asia|Syria,Damascus,Asia|Lebanon,Beirut,Asia|"
    "Jordan,Amman,Asia|Afghanistan,Kabul,Asia|Mongolia,Ulaanbaatar,Asia|"
    "Cambodia,Phnom Penh,Asia|Laos,Vientiane,Asia|Tunisia,Tunis,Africa|Algeria,Algiers,Africa|"
    "Libya,Tripoli,Africa|Sudan,Khartoum,Africa|Senegal,Dakar,Africa|Mali,Bamako,Africa|"
    "Uganda,Kampala,Africa|Rwanda,Kigali,Africa|Zambia,Lusaka,Africa|Zimbabwe,Harare,Africa|"
    "Angola,Luanda,Africa|Namibia,Windhoek,Africa|Botswana,Gaborone,Africa|"
    "Madagascar,Antananarivo,Africa|Ecuador,Quito,South America|"
    "Uruguay,Montevideo,South America|Paraguay,Asuncion,South America|"
    "Guatemala,Guatemala City,North America|Honduras,Tegucigalpa,North America|"
    "Nicaragua,Managua,North America|Costa Rica,San Jose,North America|"
    "Jamaica,Kingston,North America|Haiti,Port-au-Prince,North America|"
    "Slovakia,Bratislava,Europe|Slovenia,Ljubljana,Europe|Estonia,Tallinn,Europe|"
    "Latvia,Riga,Europe|Lithuania,Vilnius,Europe|Albania,Tirana,Europe|"
    "North Macedonia,Skopje,Europe|Moldova,Chisinau,Europe|Belarus,Minsk,Europe|"
    "Georgia,Tbilisi,Asia|Armenia,Yerevan,Asia|Azerbaijan,Baku,Asia|Kazakhstan,Astana,Asia|"
    "Uzbekistan,Tashkent,Asia|Kyrgyzstan,Bishkek,Asia|Tajikistan,Dushanbe,Asia|"
    "Turkmenistan,Ashgabat,Asia|Oman,Muscat,Asia|Yemen,Sanaa,Asia|Qatar,Doha,Asia|"
    "Bhutan,Thimphu,Asia|Fiji,Suva,Oceania|Samoa,Apia,Oceania|Tonga,Nuku'alofa,Oceania|"
    "Vanuatu,Port Vila,Oceania|Papua New Guinea,Port Moresby,Oceania|"
    "Burkina Faso,Ouagadougou,Africa|Niger,Niamey,Africa|Chad,N'Djamena,Africa|"
    "Gabon,Libreville,Africa|Togo,Lome,Africa|Eritrea,Asmara,Africa|Malawi,Lilongwe,Africa|"
    "Mozambique,Maputo,Africa|Lesotho,Maseru,Africa|Suriname,Paramaribo,South America|"
    "Guyana,Georgetown,South America"
)
COUNTRIES = tuple(tuple(row.split(",")) for row in _COUNTRIES.split("|"))

_PAST_TENSES = (
    "go went|see saw|come came|take took|give gave|make made|know knew|think thought|say said|"
    "find found|tell told|feel felt|leave left|bring brought|buy bought|keep kept|begin began|"
    "write wrote|run ran|eat ate|drink drank|sing sang|swim swam|speak spoke|break broke|"
    "choose chose|drive drove|ride rode|rise rose|fall fell|fly flew|grow grew|throw threw|"
    "draw drew|blow blew|catch caught|teach taught|fight fought|seek sought|sell sold|hold held|"
    "stand stood|understand understood|win won|lose lost|meet met|sleep slept|send sent|"
    "spend spent|build built|lend lent|bend bent|pay paid|hear heard|sit sat|forget forgot|"
    "get got|steal stole|freeze froze|wake woke|wear wore|tear tore|swear swore|bite bit|"
    "hide hid|shake shook|forgive forgave|forbid forbade|become became|dig dug|stick stuck|"
    "strike struck|swing swung|sting stung|cling clung|fling flung|feed fed|breed bred|lead led|"
    "flee fled|creep crept|sweep swept|weep wept|deal dealt|mean meant|bind bound|wind wound|"
    "grind ground|shoot shot|slide slid|spin spun|ring rang|sink sank|spring sprang|"
    "withdraw withdrew|overcome overcame|undergo underwent|withstand withstood|forsake forsook|"
    "arise arose|behold beheld|beget begot|slay slew|stride strode|smite smote|partake partook|"
    "mistake mistook|foresee foresaw|rend rent|slink slunk|wring wrung|tread trod"
)
PAST_TENSES = tuple(tuple(row.split()) for row in _PAST_TENSES.split("|"))


_LEADS = ("", "Quiz: ", "Tell me: ", "Quick question: ", "Please answer: ", "Next: ")


def _row(rng: Random, n: int, decay: float) -> int:
    """Index of a row: uniform at decay 0, else the last is drawn exp(-decay) as often as row 0."""
    share = rng.random()
    if decay > 0:
        share = -math.log(1 - share * (1 - math.exp(-decay))) / decay
    return min(int(n * share), n - 1)


def element_symbols(rng: Random, decay: float) -> Item:
    name, symbol = ELEMENTS[_row(rng, len(ELEMENTS), decay)]
    lead = rng.choice(_LEADS)
    if rng.random() < 0.5:
        body = rng.choice(("What is the symbol of {}?", "Which symbol stands for {}?"))
        return one_of(rng, lead + body.format(name), symbol, [s for _, s in ELEMENTS])
    body = rng.choice(("Which element has the symbol {}?", "What does the symbol {} stand for?"))
    return one_of(rng, lead + body.format(symbol), name, [n for n, _ in ELEMENTS])


def atomic_numbers(rng: Random, decay: float) -> Item:
    row = _row(rng, len(ELEMENTS), decay)
    name, number = ELEMENTS[row][0], str(row + 1)
    lead = rng.choice(_LEADS)
    if rng.random() < 0.5:
        body = rng.choice(("What is the atomic number of {}?", "How many protons has {}?"))
        near = [str(n) for n in range(max(1, row - 8), row + 10)]
        return one_of(rng, lead + body.format(name), number, near)
    body = rng.choice(("Which element has atomic number {}?", "Which element has {} protons?"))
    return one_of(rng, lead + body.format(number), name, [n for n, _ in ELEMENTS])


def capitals(rng: Random, decay: float) -> Item:
    country, capital, _ = COUNTRIES[_row(rng, len(COUNTRIES), decay)]
    lead = rng.choice(_LEADS)
    if rng.random() < 0.5:
        body = rng.choice(("What is the capital of {}?", "Which city is the capital of {}?"))
        return one_of(rng, lead + body.format(country), capital, [c for _, c, _ in COUNTRIES])
    body = rng.choice(("{} is the capital of which country?", "Which country has the capital {}?"))
    return one_of(rng, lead + body.format(capital), country, [c for c, _, _ in COUNTRIES])


_CONTINENTS = ("Europe", "Asia", "Africa", "North America", "South America", "Oceania")


def continents(rng: Random, decay: float) -> Item:
    country, capital, continent = COUNTRIES[_row(rng, len(COUNTRIES), decay)]
    place = country if rng.random() < 0.5 else capital
    lead = rng.choice(_LEADS)
    body = rng.choice(
        ("On which continent is {}?", "Which continent does {} belong to?", "Where is {}?")
    )
    return one_of(rng, lead + body.format(place), continent, _CONTINENTS)


def past_tenses(rng: Random, decay: float) -> Item:
    verb, past = PAST_TENSES[_row(rng, len(PAST_TENSES), decay)]
    lead = rng.choice(_LEADS)
    if rng.random() < 0.5:
        body = rng.choice(("What is the past tense of {}?", "Put {} into the past tense."))
        return one_of(rng, lead + body.format(verb), past, [p for _, p in PAST_TENSES])
    body = rng.choice(("Which verb has the past tense {}?", "{} is the past tense of which verb?"))
    return one_of(rng, lead + body.format(past), verb, [v for v, _ in PAST_TENSES])
