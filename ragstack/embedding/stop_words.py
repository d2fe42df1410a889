"""Function words that say little about what a text is about, by language; and which stemmer a language has.

A stop word is left out of the terms of passages and queries alike. Languages without a list
keep every word: the inverse document frequency then weighs frequent words down by itself.

The lists of Danish, Finnish, Hungarian, Norwegian, Russian, Swedish and Turkish are those of the Snowball project
(snowballstem.org, 3-clause BSD licence in data/NOTICE, as PostgreSQL ships them).
"""

from __future__ import annotations

from ragstack.function_words import WORDS

STEMMERS: dict[str, str] = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish",
    "fr": "french", "ga": "irish", "hi": "hindi", "hr": "serbian", "hu": "hungarian",
    "hy": "armenian", "id": "indonesian",
    "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch", "no": "norwegian", "pl": "polish",
    "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish", "ta": "tamil",
    "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
"""The Snowball stemmer of each language that has one, by ISO 639-1 code."""

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
        waren warst was weg weil weiter welche welchem welchen welcher welches wann warum wem wen
        wenn wer werde werden weshalb wessen wie wieso wieder wodurch wofür woher wohin womit will wir
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
    "danish": """
        ad af alle alt anden at blev blive bliver da de dem den denne der deres det dette dig din disse dog du efter
        eller en end er et for fra ham han hans har havde have hende hendes her hos hun hvad hvis hvor i ikke ind
        jeg jer jo kunne man mange med meget men mig min mine mit mod ned noget nogle nu når og også om op os over
        på selv sig sin sine sit skal skulle som sådan thi til ud under var vi vil ville vor være været
    """,
    "finnish": """
        ei eivät emme en et ette että he heidän heidät heihin heille heillä heiltä heissä heistä heitä hän häneen
        hänelle hänellä häneltä hänen hänessä hänestä hänet häntä itse ja johon joiden joihin joiksi joilla joille
        joilta joina joissa joista joita joka joksi jolla jolle jolta jona jonka jos jossa josta jota jotka kanssa
        keiden keihin keiksi keille keillä keiltä keinä keissä keistä keitä keneen keneksi kenelle kenellä keneltä
        kenen kenenä kenessä kenestä kenet ketkä ketä koska kuin kuka kun me meidän meidät meihin meille meillä
        meiltä meissä meistä meitä mihin miksi mikä mille millä miltä minkä minua minulla minulle minulta minun
        minussa minusta minut minuun minä missä mistä mitkä mitä mukaan mutta ne niiden niihin niiksi niille niillä
        niiltä niin niinä niissä niistä niitä noiden noihin noiksi noilla noille noilta noin noina noissa noista
        noita nuo nyt näiden näihin näiksi näille näillä näiltä näinä näissä näistä näitä nämä ole olemme olen olet
        olette oli olimme olin olisi olisimme olisin olisit olisitte olisivat olit olitte olivat olla olleet ollut
        on ovat poikki se sekä sen siihen siinä siitä siksi sille sillä siltä sinua sinulla sinulle sinulta sinun
        sinussa sinusta sinut sinuun sinä sitä tai tallä te teidän teidät teihin teille teillä teiltä teissä teistä
        teitä tuo tuohon tuoksi tuolla tuolle tuolta tuon tuona tuossa tuosta tuotä tähän täksi tälle tältä tämä
        tämän tänä tässä tästä tätä vaan vai vaikka yli
    """,
    "hungarian": """
        a abban ahhoz ahogy ahol aki akik akkor alatt amely amelyek amelyekben amelyeket amelyet amelynek ami amikor
        amit amolyan amíg annak arra arról az azok azon azonban azt aztán azután azzal azért be belül benne bár cikk
        cikkek cikkeket csak de e ebben eddig egy egyes egyetlen egyik egyre egyéb egész ehhez ekkor el ellen elsõ
        elég elõ elõször elõtt emilyen ennek erre ez ezek ezen ezt ezzel ezért fel felé hanem hiszen hogy hogyan
        igen ill ill. illetve ilyen ilyenkor ismét ison itt jobban jó jól kell kellett keressünk keresztül ki kívül
        között közül legalább legyen lehet lehetett lenne lenni lesz lett maga magát majd meg mellett mely melyek
        mert mi mikor milyen minden mindenki mindent mindig mint mintha mit mivel miért most már más másik még míg
        nagy nagyobb nagyon ne nekem neki nem nincs néha néhány nélkül olyan ott pedig persze rá s saját sem semmi
        sok sokat sokkal szemben szerint szinte számára talán tehát teljes tovább továbbá több ugyanis utolsó után
        utána vagy vagyis vagyok valaki valami valamint való van vannak vele vissza viszont volna volt voltak voltam
        voltunk által általában át én éppen és így õ õk õket össze úgy új újabb újra
    """,
    "norwegian": """
        alle at av bare begge ble blei bli blir blitt både båe da de deg dei deim deira deires dem den denne der
        dere deres det dette di din disse ditt du dykk dykkar då eg ein eit eitt eller elles en enn er et ett etter
        for fordi fra før ha hadde han hans har hennar henne hennes her hjå ho hoe honom hoss hossen hun hva hvem
        hver hvilke hvilken hvis hvor hvordan hvorfor i ikke ikkje ingen ingi inkje inn inni ja jeg kan kom korleis
        korso kun kunne kva kvar kvarhelst kven kvi kvifor man mange me med medan meg meget mellom men mi min mine
        mitt mot mykje ned no noe noen noka noko nokon nokor nokre nå når og også om opp oss over på samme seg selv
        si sia sidan siden sin sine sitt sjøl skal skulle slik so som somme somt så sånn til um upp ut uten var vart
        varte ved vere verte vi vil ville vore vors vort vår være vært å
    """,
    "russian": """
        а без более больше будет будто бы был была были было быть в вам вас вдруг ведь во вот впрочем все всегда
        всего всех всю вы где да даже два для до другой его ее ей ему если есть еще ж же за зачем здесь и из или им
        иногда их к как какая какой когда конечно кто куда ли лучше между меня мне много может можно мой моя мы на
        над надо наконец нас не него нее ней нельзя нет ни нибудь никогда ним них ничего но ну о об один он она они
        опять от перед по под после потом потому почти при про раз разве с сам свою себе себя сейчас со совсем так
        такой там тебя тем теперь то тогда того тоже только том тот три тут ты у уж уже хорошо хоть чего чем через
        что чтоб чтобы чуть эти этого этой этом этот эту я
    """,
    "swedish": """
        alla allt att av blev bli blir blivit de dem den denna deras dess dessa det detta dig din dina ditt du där
        då efter ej eller en er era ert ett från för ha hade han hans har henne hennes hon honom hur här i icke
        ingen inom inte jag ju kan kunde man med mellan men mig min mina mitt mot mycket ni nu när någon något några
        och om oss på samma sedan sig sin sina sitta själv skulle som så sådan sådana sådant till under upp ut utan
        vad var vara varför varit varje vars vart vem vi vid vilka vilkas vilken vilket vår våra vårt än är åt över
    """,
    "turkish": """
        acaba ama aslında az bazı belki biri birkaç birşey biz bu da daha de defa diye en eğer gibi hem hep hepsi
        her hiç ile ise için kez ki kim mu mü mı nasıl ne neden nerde nerede nereye niye niçin o sanki siz tüm ve
        veya ya yani çok çünkü şey şu
    """,
    "greek": """
        ο η το οι τα του της των τον την τους τις ένας μια μία ένα και κι ή ούτε αλλά όμως ενώ αν εάν ότι πως που
        όταν όπως επειδή γιατί διότι ώστε να θα ας δεν δε μη μην με σε από για προς κατά μετά παρά αντί έως ως μέχρι
        χωρίς στο στη στην στον στους στις στα είναι ήταν είμαι είσαι είμαστε είστε είχε έχει έχουν έχω αυτός αυτή
        αυτό αυτοί αυτές αυτά εκείνος εκείνη εκείνο ποιος ποια ποιο ποιοι ποιες τι πού πότε πόσο πόσα εγώ εσύ εμείς
        εσείς μου σου μας σας τόσο όσο πολύ πιο
    """,
    "armenian": """
        այդ այլ այն այս դու դուք եմ են ենք ես եք է էի էին էինք էիր էիք էր ըստ ի ին իսկ իր կամ համար հետ հետո մենք
        մեջ մի նա նաև նրա նրանք որ որը որոնք որպես ու ում պիտի վրա և
    """,
    "tamil": """
        ஒரு என்று மற்றும் இந்த இது என்ற என்பது ஆகும் அல்லது அவர் நான் உள்ள அந்த இவர் என என்ன சில போன்ற அது அவன் தான்
        மேலும் அதன் தன் அவர்கள் வரை அவள் நீ யார் எந்த எங்கே எப்போது எப்படி ஏன்
    """,
    "yiddish": """
        און אין די דער דאָס דאס פֿון פון צו מיט ניט נישט אַז אז האָט האט אויף ער זי עס מיר איך וואָס וואס ווי איז
        זײַן זיין
    """,
}


def _by_stemmer() -> dict[str, frozenset[str]]:
    found = {language: set(words.casefold().split()) for language, words in _LISTS.items()}
    for code, stemmer in STEMMERS.items():
        if stemmer not in _LISTS:
            found.setdefault(stemmer, set()).update(WORDS.get(code, "").casefold().split())
    return {stemmer: frozenset(words) for stemmer, words in found.items()}


STOP_WORDS = _by_stemmer()
"""Stop words by Snowball language, case-folded: its list, or the function words of what the stemmer is for."""


def stop_words_of(code: str) -> frozenset[str]:
    """The stop words of a language by its ISO 639-1 code; none where nothing is known of it."""
    stemmer = STEMMERS.get(code)
    return STOP_WORDS[stemmer] if stemmer else frozenset(WORDS.get(code, "").casefold().split())
