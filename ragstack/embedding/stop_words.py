"""Function words that say little about what a text is about, by Snowball language.

A stop word is left out of the terms of passages and queries alike. Languages without a list
keep every word: the inverse document frequency then weighs frequent words down by itself.
"""

from __future__ import annotations

_LISTS: dict[str, str] = {
    "english": """
        a about above after again against all am an and any are as at be because been before being below between
        both but by can could d did do does doing don down during each few for from further had has have having he
        her here hers herself him himself his how i if in into is it its itself just ll m me might more most must
        my myself no nor not now of off on once only or other our ours ourselves out over own re s same shall she
        should so some such t than that the their theirs them themselves then there these they this those through
        to too under until up upon us ve very was we were what when where which while who whom whose why will with
        would you your yours yourself yourselves
    """,
    "german": """
        aber alle allem allen aller alles als also am an ander andere anderem anderen anderer anderes auch auf aus
        bei bin bis bist da damit dann das dass dasselbe dein deine deinem deinen deiner dem den denn der deren des
        dessen dich die dies diese diesem diesen dieser dieses dir doch dort du durch ein eine einem einen einer
        eines einige er es etwas euch euer eure für gegen gewesen hab habe haben hat hatte hatten hier hin hinter
        ich ihm ihn ihnen ihr ihre ihrem ihren ihrer im in indem ins ist ja jede jedem jeden jeder jedes jene jetzt
        kann kein keine keinem keinen keiner können könnte machen man manche mein meine meinem meinen meiner mich
        mir mit muss musste nach nicht nichts noch nun nur ob oder ohne sehr sein seine seinem seinen seiner selbst
        sich sie sind so solche soll sollte sondern sonst über um und uns unser unsere unter viel vom von vor war
        waren warst was weg weil weiter welche welchem welchen welcher welches wenn werde werden wie wieder will wir
        wird wirst wo wollen worden wurde wurden zu zum zur zwar zwischen
    """,
    "french": """
        à ai aient ainsi alors après as au aucun aura aurait autre aux avait avec avoir avons ayant c car ce ceci
        cela celle celles celui ces cet cette ceux chaque chez ci comme comment d dans de des donc dont du elle
        elles en encore entre est et étaient était étant été être eu eux fait il ils j je jusqu l la le les leur
        leurs lors lui là m ma mais me même mes moi mon n ne ni nos notre nous on ont ou où par pas pendant peu peut
        plus pour pourquoi qu quand que quel quelle quelles quels qui s sa sans se sera serait ses si son sont sous
        sur t ta te tes toi ton tous tout toute toutes très tu un une vers vos votre vous y
    """,
    "spanish": """
        a al algo algunas algunos ante antes aquel aquella aquellas aquellos así aun aunque cada como con contra cual
        cuál cuales cuando cuándo cuanto de del desde donde dónde durante e el él ella ellas ellos en entre era eran
        es esa esas ese eso esos esta está estaba estado están estar estas este esto estos fue fueron ha había habían
        han hasta hay la las le les lo los más me mi mientras muy nada ni no nos nosotros nuestra nuestro o os otra
        otras otro otros para pero poco por porque qué que quien quién quienes se sea según ser si sí sido sin sobre
        son su sus también tan tanto te tiene tienen todo todos tu tus un una unas uno unos vosotros y ya yo
    """,
    "italian": """
        a abbiamo ad agli ai al alla alle allo anche ancora avere aveva avevano c che chi ci ciò come con contro cosa
        cui da dagli dai dal dalla dalle dallo degli dei del dell della delle dello di dopo dove e è ed era erano
        essere fa fino fra fu furono gli ha hai hanno ho i il in io l la le lei li lo loro lui ma me mentre mi mia
        mie miei mio molto ne negli nei nel nella nelle nello noi non nostra nostro o ogni per perché più poi quale
        quali quando quanto quella quelle quelli quello questa queste questi questo qui se sei si sia siamo sono sta
        stata stato stati su sua sue sugli sui sul sulla sulle sullo suo suoi ti tra tu tua tuo tutti tutto un una
        uno vi voi
    """,
    "portuguese": """
        a à ainda além ao aos aquela aquelas aquele aqueles aquilo as às até com como da das de dela delas dele deles
        depois do dos e é ela elas ele eles em entre era eram essa essas esse esses esta está estão estas estava este
        estes eu foi foram há isso isto já lhe lhes mais mas me mesmo meu meus minha muito na não nas nem no nos nós
        nossa nosso num numa o onde os ou para pela pelas pelo pelos por porque qual quais quando que quem se sem
        ser será seu seus só sob sobre sua suas também te tem têm ter teu tu tua um uma umas uns você vocês
    """,
    "dutch": """
        aan al alle als altijd andere ben bij daar dan dat de der deze die dit doch doen door dus een en er ge geen
        geweest haar had hadden heb hebben heeft hem het hier hij hoe hun iets ik in is ja je kan kon kunnen maar me
        meer men met mij mijn moet na naar niet niets nog nu of om omdat ons onze ook op over reeds te tegen toch toen
        tot u uit uw van veel voor want waren was wat we wel werd wezen wie wij wil worden wordt zal ze zelf zich zij
        zijn zo zonder zou
    """,
}

STOP_WORDS: dict[str, frozenset[str]] = {language: frozenset(words.split()) for language, words in _LISTS.items()}
"""Stop words by Snowball language, case-folded."""
